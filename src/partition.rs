//! A partition of AWS: regions that share no accounts and no endpoints with the others.

/// The regions of each partition start with this (AWS General Reference, "AWS partitions"). All others belong to `aws`.
const PARTITIONS: [(&str, &str); 7] = [
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
    ("us-isof-", "aws-iso-f"),
    ("eu-isoe-", "aws-iso-e"),
    ("eusc-", "aws-eusc"),
];

/// The partition of a region. A region that is not known is in `aws`.
pub(crate) fn of_region(region: &str) -> &'static str {
    PARTITIONS.into_iter().find(|(start, _)| region.starts_with(start)).map_or("aws", |(_, name)| name)
}
