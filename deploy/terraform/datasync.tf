# The DataSync task: it copies the folder of the access point to the prefix of the bucket, and deletes orphans.

data "aws_iam_policy_document" "datasync_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["datasync.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:datasync:${local.region}:${local.account}:*"]
    }
  }
}

resource "aws_iam_role" "datasync_efs" {
  name               = "${var.name}-datasync-efs"
  description        = "DataSync reads the file system"
  assume_role_policy = data.aws_iam_policy_document.datasync_trust.json
  tags               = var.tags
}

resource "aws_iam_role" "datasync_s3" {
  name               = "${var.name}-datasync-s3"
  description        = "DataSync writes to the bucket"
  assume_role_policy = data.aws_iam_policy_document.datasync_trust.json
  tags               = var.tags
}

data "aws_iam_policy_document" "datasync_efs" {
  statement {
    sid       = "Mount"
    actions   = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientRootAccess"]
    resources = [local.file_system_arn]
    condition {
      test     = "ArnEquals"
      variable = "elasticfilesystem:AccessPointArn"
      values   = [aws_efs_access_point.this.arn]
    }
  }
}

# As AWS documents it for a location on S3 (DataSync user guide, "Providing DataSync access to S3 buckets").
data "aws_iam_policy_document" "datasync_s3" {
  statement {
    sid       = "Bucket"
    actions   = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
    resources = [local.bucket_arn]
  }
  statement {
    sid = "Objects"
    actions = [
      "s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:GetObjectTagging", "s3:GetObjectVersion",
      "s3:GetObjectVersionTagging", "s3:ListMultipartUploadParts", "s3:PutObject", "s3:PutObjectTagging",
    ]
    resources = ["${local.bucket_arn}/${local.key_prefix}*"]
  }
  dynamic "statement" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]
    content {
      sid       = "Key"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "datasync_efs" {
  name   = "efs"
  role   = aws_iam_role.datasync_efs.id
  policy = data.aws_iam_policy_document.datasync_efs.json
}

resource "aws_iam_role_policy" "datasync_s3" {
  name   = "s3"
  role   = aws_iam_role.datasync_s3.id
  policy = data.aws_iam_policy_document.datasync_s3.json
}

resource "aws_datasync_location_efs" "this" {
  # Depends on a mount target, not on the file system: DataSync checks whether the subnet has a mount target.
  efs_file_system_arn         = local.file_system_arn
  access_point_arn            = aws_efs_access_point.this.arn
  file_system_access_role_arn = aws_iam_role.datasync_efs.arn
  in_transit_encryption       = "TLS1_2"
  tags                        = var.tags

  ec2_config {
    security_group_arns = [local.efs_group_arn]
    subnet_arn          = local.datasync_subnet
  }

  depends_on = [aws_efs_mount_target.this, aws_iam_role_policy.datasync_efs, aws_vpc_security_group_ingress_rule.nfs]
}

resource "aws_datasync_location_s3" "this" {
  s3_bucket_arn = local.bucket_arn
  subdirectory  = "/${local.key_prefix}"
  tags          = var.tags

  s3_config {
    bucket_access_role_arn = aws_iam_role.datasync_s3.arn
  }

  depends_on = [aws_iam_role_policy.datasync_s3, aws_s3_bucket.this]
}

resource "aws_datasync_task" "this" {
  name                     = var.name
  source_location_arn      = aws_datasync_location_efs.this.arn
  destination_location_arn = aws_datasync_location_s3.this.arn
  cloudwatch_log_group_arn = aws_cloudwatch_log_group.this["datasync"].arn
  tags                     = var.tags

  options {
    preserve_deleted_files = var.delete ? "REMOVE" : "PRESERVE"
    overwrite_mode         = "ALWAYS"
    transfer_mode          = "CHANGED"
    verify_mode            = "ONLY_FILES_TRANSFERRED"
    log_level              = "BASIC"
    atime                  = "BEST_EFFORT"
    mtime                  = "PRESERVE"
    uid                    = "INT_VALUE"
    gid                    = "INT_VALUE"
    posix_permissions      = "PRESERVE"
    # If an execution hangs, an execution that is queued behind it would wait forever.
    task_queueing = "DISABLED"
  }

  dynamic "excludes" {
    for_each = length(var.excludes) == 0 ? [] : [join("|", var.excludes)]
    content {
      filter_type = "SIMPLE_PATTERN"
      value       = excludes.value
    }
  }

  depends_on = [aws_cloudwatch_log_resource_policy.datasync]
}

# DataSync writes logs only if the policy of the log group allows it.
data "aws_iam_policy_document" "datasync_logs" {
  statement {
    sid       = "DataSync"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this["datasync"].arn}:*"]
    principals {
      type        = "Service"
      identifiers = ["datasync.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_cloudwatch_log_resource_policy" "datasync" {
  policy_name     = "${var.name}-datasync"
  policy_document = data.aws_iam_policy_document.datasync_logs.json
}
