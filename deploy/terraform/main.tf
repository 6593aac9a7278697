# A file system on EFS, a copy of it in a bucket, DataSync and an ECS task that update the copy, and a schedule.
# README.md has a diagram. Each file holds one part.

data "aws_partition" "current" {}
data "aws_region" "current" {}
data "aws_caller_identity" "current" {}

locals {
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.region
  account   = data.aws_caller_identity.current.account_id
  dns       = data.aws_partition.current.dns_suffix
  use_fips  = coalesce(var.use_fips_endpoints, local.partition == "aws-us-gov")

  # The key prefix, empty or ending in a slash.
  key_prefix = var.bucket_prefix == "" ? "" : "${trimsuffix(var.bucket_prefix, "/")}/"
  bucket_arn = "arn:${local.partition}:s3:::${var.bucket_name}"
}
