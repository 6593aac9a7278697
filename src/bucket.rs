//! A bucket: by its name, by the alias of an access point, or by the ARN of an access point.
//!
//! | text | requests go to |
//! |---|---|
//! | `name`, also an old name with capitals or `_`; an alias (`…-s3alias`) | the bucket |
//! | `arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME` | the access point, in the region of the ARN |
//! | `arn:aws:s3::ACCOUNT:accesspoint/ALIAS.mrap` | the multi-region access point |
//! | `arn:aws:s3-outposts:REGION:ACCOUNT:outpost/ID/accesspoint/NAME` | the access point on the Outpost |
//!
//! An Object Lambda access point is refused: its content is not what the bucket stores.

use std::fmt;

/// A bucket, or an access point to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    text: String,
    kind: BucketKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum BucketKind {
    Name,
    AccessPoint {
        region: String,
    },
    MultiRegion,
    /// The destination of a task that this program cannot write to, for this reason.
    Foreign(String),
}

/// Why a text is not a bucket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    #[error(
        "'{0}' is not a bucket name: use 3 to 255 characters of letters, digits, '.', '-' and '_', with a letter or digit \
         at both ends and no '..'"
    )]
    Name(String),
    #[error("'{0}' is the ARN of a bucket: write the bucket by its name, s3://{1}/prefix")]
    OfBucket(String, String),
    #[error(
        "'{0}' is an Object Lambda access point, whose content is not what the bucket stores: name the bucket, or the \
         access point behind it"
    )]
    ObjectLambda(String),
    #[error(
        "'{0}' is not the ARN of an access point: write it as arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME, or name the bucket"
    )]
    Arn(String),
}

impl Bucket {
    /// Splits `bucket/prefix`, where the bucket may be an ARN with slashes of its own.
    ///
    /// # Errors
    /// Returns an error if the text does not start with a bucket that this program can write to.
    pub(crate) fn split(text: &str) -> Result<(Self, &str), BucketError> {
        if text.starts_with("arn:") {
            return Self::split_arn(text);
        }
        let (name, prefix) = text.split_once('/').unwrap_or((text, ""));
        if name.ends_with("--ol-s3") {
            return Err(BucketError::ObjectLambda(name.to_owned()));
        }
        let at_the_end = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let good = (3..=255).contains(&name.len())
            && name.chars().all(|c| at_the_end(c) || c == '.' || c == '-')
            && name.starts_with(at_the_end)
            && name.ends_with(at_the_end)
            && !name.contains("..");
        let bucket = Self { text: name.to_owned(), kind: BucketKind::Name };
        if good { Ok((bucket, prefix)) } else { Err(BucketError::Name(name.to_owned())) }
    }

    fn split_arn(text: &str) -> Result<(Self, &str), BucketError> {
        let wrong = || BucketError::Arn(text.to_owned());
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, service, region, account, resource] = parts[..] else {
            return Err(wrong());
        };
        let is_word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !is_word(partition) {
            return Err(wrong());
        }
        match service {
            "s3-object-lambda" => return Err(BucketError::ObjectLambda(text.to_owned())),
            "s3" if region.is_empty() && account.is_empty() => {
                let name = resource.split('/').next().unwrap_or_default();
                return Err(BucketError::OfBucket(format!("arn:{partition}:s3:::{name}"), name.to_owned()));
            }
            _ => {}
        }
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        // Both delimiters are valid: the first form is stored.
        let mut rest = resource;
        let mut next = |delimiters: &[char]| {
            let (part, tail) = rest.split_once(delimiters).unwrap_or((rest, ""));
            rest = tail;
            part
        };
        let start = format!("arn:{partition}:{service}:{region}:{account}");
        let (text, kind) = match (service, next(&['/', ':'])) {
            ("s3", "accesspoint") => {
                let name = next(&['/']);
                let is_multi_region = region.is_empty() && name.strip_suffix(".mrap").is_some_and(is_word);
                if !(is_multi_region || is_word(name) && is_word(region)) {
                    return Err(wrong());
                }
                let kind = if is_multi_region {
                    BucketKind::MultiRegion
                } else {
                    BucketKind::AccessPoint { region: region.to_owned() }
                };
                (format!("{start}:accesspoint/{name}"), kind)
            }
            ("s3-outposts", "outpost") => {
                let (outpost, word, name) = (next(&['/', ':']), next(&['/', ':']), next(&['/']));
                if word != "accesspoint" || ![outpost, name, region].into_iter().all(is_word) {
                    return Err(wrong());
                }
                let kind = BucketKind::AccessPoint { region: region.to_owned() };
                (format!("{start}:outpost/{outpost}/accesspoint/{name}"), kind)
            }
            _ => return Err(wrong()),
        };
        Ok((Self { text, kind }, rest))
    }

    /// A destination of a task that this program cannot write to.
    pub(crate) fn foreign(uri: &str, why: String) -> Self {
        let text = uri.trim_start_matches("s3://").trim_end_matches('/').to_owned();
        Self { text, kind: BucketKind::Foreign(why) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Why this program cannot write to it, if that is so.
    pub(crate) fn why_foreign(&self) -> Option<&str> {
        if let BucketKind::Foreign(why) = &self.kind { Some(why) } else { None }
    }

    /// The region of an access point.
    pub(crate) fn region(&self) -> Option<&str> {
        if let BucketKind::AccessPoint { region } = &self.kind { Some(region) } else { None }
    }

    /// The partition of an ARN.
    pub(crate) fn partition(&self) -> Option<&str> {
        self.text.split(':').nth(1).filter(|_| self.is_arn())
    }

    /// Whether it is an ARN. S3 takes it in the name of the host only.
    pub(crate) const fn is_arn(&self) -> bool {
        matches!(self.kind, BucketKind::AccessPoint { .. } | BucketKind::MultiRegion)
    }

    /// Whether S3 copies objects there.
    pub(crate) const fn copies(&self) -> bool {
        !matches!(self.kind, BucketKind::MultiRegion)
    }

    /// The source of a copy of an object, before it is encoded.
    pub(crate) fn copy_source(&self, key: &str) -> String {
        let infix = if self.is_arn() { "/object/" } else { "/" };
        format!("{}{infix}{key}", self.text)
    }

    /// Whether responses may name another bucket: the one behind an access point.
    pub(crate) fn is_named_otherwise(&self) -> bool {
        self.is_arn() || ["-s3alias", "--op-s3"].iter().any(|suffix| self.text.ends_with(suffix))
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: &str = "arn:aws:s3:us-east-1:123456789012:accesspoint/www-ap";
    const OUTPOST: &str = "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01/accesspoint/www-ap";
    const MULTI_REGION: &str = "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap";

    fn split(text: &str) -> Result<(String, String), BucketError> {
        Bucket::split(text).map(|(bucket, prefix)| (bucket.to_string(), prefix.to_owned()))
    }

    #[test]
    fn a_bucket_is_split_from_its_prefix() {
        let names = ["site", "my.site", "Old_Bucket", "www-ap-aws4dmb-s3alias", "www-ap-o0000--op-s3"];
        for bucket in names.into_iter().chain([POINT, OUTPOST, MULTI_REGION]) {
            for prefix in ["", "www", "www/", "a/b:c"] {
                assert_eq!(split(&format!("{bucket}/{prefix}")), Ok((bucket.to_owned(), prefix.to_owned())));
            }
            assert_eq!(split(bucket), Ok((bucket.to_owned(), String::new())));
        }
        for partition in ["aws-us-gov", "aws-cn"] {
            let point = POINT.replacen("aws", partition, 1);
            assert_eq!(split(&point), Ok((point.clone(), String::new())));
        }
    }

    #[test]
    fn both_delimiters_of_an_arn_name_the_same_access_point() {
        assert_eq!(split(&POINT.replace("accesspoint/", "accesspoint:")), split(POINT));
        assert_eq!(split(&OUTPOST.replace('/', ":")), split(OUTPOST));
    }

    #[test]
    fn what_this_program_cannot_write_to_is_refused() {
        for name in ["", "ab", "Bad_Bucket!", "-abc", "abc-", "a..b", "bücket"] {
            assert_eq!(split(name), Err(BucketError::Name(name.to_owned())));
        }
        for lambda in ["arn:aws:s3-object-lambda:us-east-1:123456789012:accesspoint/x", "x-1a2b--ol-s3"] {
            assert_eq!(split(lambda), Err(BucketError::ObjectLambda(lambda.to_owned())));
        }
        let of_bucket = BucketError::OfBucket("arn:aws:s3:::site".to_owned(), "site".to_owned());
        assert_eq!(split("arn:aws:s3:::site/www"), Err(of_bucket));
        for arn in [
            "arn:aws",
            "arn:aws:s3:us-east-1:123456789012:accesspoint",
            "arn:aws:s3:us-east-1:12:accesspoint/x",
            "arn:aws:s3::123456789012:accesspoint/x",
            "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01",
            "arn:aws:sns:us-east-1:123456789012:topic",
        ] {
            assert_eq!(split(arn), Err(BucketError::Arn(arn.to_owned())));
        }
    }

    #[test]
    fn a_copy_names_the_object_of_an_access_point() {
        let source = |text| Bucket::split(text).unwrap().0.copy_source("www/a");
        assert_eq!(source("site"), "site/www/a");
        assert_eq!(source(POINT), format!("{POINT}/object/www/a"));
    }
}
