# The bucket of the site, and the bucket of the state. The policy of the site's bucket (CloudFront, a website) is yours: the
# module only adds that every request needs TLS.

locals {
  buckets = merge(
    { state = { bucket = "${var.name}-state-${local.account}-${local.region}", versioning = false } },
    var.create_bucket ? { site = { bucket = var.bucket_name, versioning = var.bucket_versioning } } : {},
  )
  state_url = "s3://${aws_s3_bucket.this["state"].bucket}/${var.name}"
  state_arn = aws_s3_bucket.this["state"].arn
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18:access logs are up to those who serve the site
  #checkov:skip=CKV2_AWS_62:no part of the system uses its events
  #checkov:skip=CKV_AWS_144:the file system is the original, and the bucket its copy
  for_each = local.buckets

  bucket = each.value.bucket
  tags   = var.tags
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.buckets

  bucket                  = aws_s3_bucket.this[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = { for key, bucket in local.buckets : key => bucket if bucket.versioning }

  bucket = aws_s3_bucket.this[each.key].id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  # Deletes unfinished uploads of a killed run if no next run resumes them.
  rule {
    id     = "uploads-that-were-left"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  dynamic "rule" {
    for_each = each.value.versioning ? [1] : []
    content {
      id     = "old-versions"
      status = "Enabled"
      filter {}
      noncurrent_version_expiration {
        noncurrent_days = 30
      }
    }
  }
}

data "aws_iam_policy_document" "tls" {
  for_each = local.buckets

  statement {
    sid       = "OnlyWithTls"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.this[each.key].arn, "${aws_s3_bucket.this[each.key].arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

# A bucket has one policy. If you make the policy of the site's bucket yourself, add the output bucket_tls_policy to it.
resource "aws_s3_bucket_policy" "state" {
  bucket = aws_s3_bucket.this["state"].id
  policy = data.aws_iam_policy_document.tls["state"].json
}

resource "aws_s3_bucket_policy" "site" {
  count = var.create_bucket && var.create_bucket_policy ? 1 : 0

  bucket = aws_s3_bucket.this["site"].id
  policy = data.aws_iam_policy_document.tls["site"].json
}
