# The ECS task: the program in a container, with the file system mounted read-only.

locals {
  image = var.image == null ? "${aws_ecr_repository.this[0].repository_url}:${var.image_tag}" : var.image
  mount = "/mnt/efs"

  environment = merge(
    {
      EFS2S3_TASK_ARN   = aws_datasync_task.this.arn
      EFS2S3_SOURCE     = local.mount
      EFS2S3_STATE      = local.state_url
      EFS2S3_LOG_FORMAT = "json"
      # The same settings as the DataSync task, for runs that cannot reach DataSync.
      EFS2S3_DESTINATION = "s3://${var.bucket_name}/${local.key_prefix}"
      EFS2S3_DELETE      = tostring(var.delete)
    },
    length(var.excludes) == 0 ? {} : { EFS2S3_EXCLUDE = join("|", var.excludes) },
    local.use_fips ? { AWS_USE_FIPS_ENDPOINT = "true" } : {},
    var.environment,
  )
}

resource "aws_ecr_repository" "this" {
  count = var.image == null ? 1 : 0

  name                 = var.name
  image_tag_mutability = var.image_tag == "latest" ? "MUTABLE" : "IMMUTABLE"
  tags                 = var.tags

  image_scanning_configuration {
    scan_on_push = true
  }
  encryption_configuration {
    encryption_type = var.kms_key_arn == null ? "AES256" : "KMS"
    kms_key         = var.kms_key_arn
  }
}

resource "aws_ecs_cluster" "this" {
  name = var.name
  tags = var.tags

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

data "aws_iam_policy_document" "ecs_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:ecs:${local.region}:${local.account}:*"]
    }
  }
}

# The permissions of ECS itself: pull the image, write the log.
resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  description        = "ECS starts the container"
  assume_role_policy = data.aws_iam_policy_document.ecs_trust.json
  tags               = var.tags
}

data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this["task"].arn}:*"]
  }
  dynamic "statement" {
    for_each = aws_ecr_repository.this[*].arn
    content {
      sid       = "Image"
      actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      resources = [statement.value]
    }
  }
  dynamic "statement" {
    for_each = aws_ecr_repository.this[*].arn
    content {
      sid       = "Registry"
      actions   = ["ecr:GetAuthorizationToken"]
      resources = ["*"]
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  name   = "start"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

# The permissions of the program. The tests compare these actions with the requests that they record.
resource "aws_iam_role" "task" {
  name               = "${var.name}-task"
  description        = "efs2s3 reads the file system, writes to the bucket, and works with the DataSync task"
  assume_role_policy = data.aws_iam_policy_document.ecs_trust.json
  tags               = var.tags
}

data "aws_iam_policy_document" "task" {
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
  statement {
    sid       = "Bucket"
    actions   = ["s3:ListBucket", "s3:ListBucketMultipartUploads"]
    resources = [local.bucket_arn]
  }
  statement {
    sid = "Objects"
    actions = concat(
      [
        "s3:GetObject", "s3:GetObjectTagging", "s3:PutObject", "s3:PutObjectTagging",
        "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts",
      ],
      var.delete ? ["s3:DeleteObject"] : [],
    )
    resources = ["${local.bucket_arn}/${local.key_prefix}*"]
  }
  statement {
    sid       = "StateBucket"
    actions   = ["s3:ListBucket"]
    resources = [local.state_arn]
  }
  statement {
    sid       = "State"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${local.state_arn}/${var.name}/*"]
  }
  statement {
    sid = "DataSyncTask"
    actions = [
      "datasync:DescribeTask", "datasync:StartTaskExecution", "datasync:DescribeTaskExecution",
      "datasync:CancelTaskExecution", "datasync:ListTaskExecutions",
    ]
    resources = [aws_datasync_task.this.arn, "${aws_datasync_task.this.arn}/execution/*"]
  }
  statement {
    sid       = "DataSyncLocations"
    actions   = ["datasync:DescribeLocationEfs", "datasync:DescribeLocationS3"]
    resources = [aws_datasync_location_efs.this.arn, aws_datasync_location_s3.this.arn]
  }
  # Starting a DataSync task with an EFS location requires this action, which supports no resources.
  statement {
    sid       = "NetworkInterfaces"
    actions   = ["ec2:DescribeNetworkInterfaces"]
    resources = ["*"]
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

resource "aws_iam_role_policy" "task" {
  name   = "efs2s3"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.task.json
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  tags                     = var.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  container_definitions = jsonencode([{
    name                   = "efs2s3"
    image                  = local.image
    command                = ["run"]
    essential              = true
    readonlyRootFilesystem = true
    # The seconds after SIGTERM in which the run writes the report and releases the lease.
    stopTimeout = 60
    environment = [for name, value in local.environment : { name = name, value = value }]
    mountPoints = [
      { sourceVolume = "efs", containerPath = local.mount, readOnly = true },
      # For data that does not fit into memory: pending deletes and edits of the index.
      { sourceVolume = "tmp", containerPath = "/tmp", readOnly = false },
    ]
    linuxParameters = { capabilities = { drop = ["ALL"] } }
    ulimits         = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this["task"].name
        awslogs-region        = local.region
        awslogs-stream-prefix = "run"
      }
    }
  }])

  volume {
    name = "efs"
    efs_volume_configuration {
      file_system_id     = local.file_system_id
      transit_encryption = "ENABLED"
      authorization_config {
        access_point_id = aws_efs_access_point.this.id
        iam             = "ENABLED"
      }
    }
  }

  volume {
    name = "tmp"
  }

  lifecycle {
    precondition {
      condition     = var.memory >= 2 * var.cpu && var.memory <= 8 * var.cpu
      error_message = "Fargate has 2 to 8 MiB of memory for each CPU unit."
    }
  }
}
