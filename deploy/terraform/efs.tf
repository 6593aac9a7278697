# The file system, its mount targets, and the access point through which the ECS task and DataSync see the same folder.

locals {
  create_efs        = var.efs_file_system_id == null
  file_system_id    = local.create_efs ? aws_efs_file_system.this[0].id : var.efs_file_system_id
  file_system_arn   = "arn:${local.partition}:elasticfilesystem:${local.region}:${local.account}:file-system/${local.file_system_id}"
  efs_group_id      = var.efs_security_group_id == null ? aws_security_group.efs[0].id : var.efs_security_group_id
  efs_group_arn     = "arn:${local.partition}:ec2:${local.region}:${local.account}:security-group/${local.efs_group_id}"
  datasync_subnet   = "arn:${local.partition}:ec2:${local.region}:${local.account}:subnet/${var.subnet_ids[0]}"
  mount_target_deps = local.create_efs ? [for target in aws_efs_mount_target.this : target.id] : []
}

resource "aws_efs_file_system" "this" {
  count = local.create_efs ? 1 : 0

  creation_token  = var.name
  encrypted       = true
  kms_key_id      = var.kms_key_arn
  throughput_mode = "elastic"
  tags            = merge(var.tags, { Name = var.name })

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_efs_mount_target" "this" {
  for_each = local.create_efs ? toset(var.subnet_ids) : toset([])

  file_system_id  = local.file_system_id
  subnet_id       = each.value
  security_groups = [local.efs_group_id]
}

# Mounts need TLS and a role. The ECS task may only read.
data "aws_iam_policy_document" "efs" {
  statement {
    sid       = "OnlyWithTls"
    effect    = "Deny"
    actions   = ["*"]
    resources = [local.file_system_arn]
    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
  statement {
    sid       = "Readers"
    actions   = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientRootAccess"]
    resources = [local.file_system_arn]
    principals {
      type        = "AWS"
      identifiers = [aws_iam_role.task.arn, aws_iam_role.datasync_efs.arn]
    }
    condition {
      test     = "ArnEquals"
      variable = "elasticfilesystem:AccessPointArn"
      values   = [aws_efs_access_point.this.arn]
    }
  }
  statement {
    sid       = "WebServers"
    actions   = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite", "elasticfilesystem:ClientRootAccess"]
    resources = [local.file_system_arn]
    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "elasticfilesystem:AccessedViaMountTarget"
      values   = ["true"]
    }
    condition {
      test     = "ArnNotEquals"
      variable = "aws:PrincipalArn"
      values   = [aws_iam_role.task.arn, aws_iam_role.datasync_efs.arn]
    }
  }
}

resource "aws_efs_file_system_policy" "this" {
  count = local.create_efs ? 1 : 0

  file_system_id = local.file_system_id
  policy         = data.aws_iam_policy_document.efs.json
}

resource "aws_efs_access_point" "this" {
  #checkov:skip=CKV_AWS_329:the folder is efs_path, and / is right if all of the file system is copied
  file_system_id = local.file_system_id
  tags           = merge(var.tags, { Name = var.name })

  posix_user {
    uid = var.efs_posix_user.uid
    gid = var.efs_posix_user.gid
  }

  # The ECS task and DataSync see this folder as /. If DataSync saw another folder, every key would differ.
  root_directory {
    path = var.efs_path

    creation_info {
      owner_uid   = var.efs_posix_user.uid
      owner_gid   = var.efs_posix_user.gid
      permissions = "0755"
    }
  }
}
