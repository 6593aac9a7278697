# The function, with primary = "lambda": the same program, called `bootstrap`. Terraform packs and uploads its code, and
# identifies it by its hash, so that a plan shows when it changes.

data "archive_file" "function" {
  count = local.by_lambda ? 1 : 0

  type             = "zip"
  source_file      = var.lambda_binary
  output_path      = "${path.root}/.terraform/${var.name}-function.zip"
  output_file_mode = "0755"

  lifecycle {
    precondition {
      condition     = var.lambda_binary != null && try(basename(var.lambda_binary), "") == "bootstrap"
      error_message = "primary = \"lambda\" needs lambda_binary, the path of a file called bootstrap: build it as docker/README.md describes."
    }
  }
}

resource "aws_s3_object" "function" {
  count = local.by_lambda && var.lambda_code_bucket != null ? 1 : 0

  bucket      = var.lambda_code_bucket
  key         = "${var.name}/function-${data.archive_file.function[0].output_sha256}.zip"
  source      = data.archive_file.function[0].output_path
  source_hash = data.archive_file.function[0].output_sha256
  tags        = var.tags
}

data "aws_iam_policy_document" "function_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

# The tests compare these actions with the requests that they record.
data "aws_iam_policy_document" "function" {
  count = local.by_lambda ? 1 : 0

  source_policy_documents = [data.aws_iam_policy_document.start_task.json]

  statement {
    sid       = "DataSyncTask"
    actions   = ["datasync:DescribeTask", "datasync:StartTaskExecution", "datasync:DescribeTaskExecution"]
    resources = [aws_datasync_task.this.arn, "${aws_datasync_task.this.arn}/execution/*"]
  }
  # Starting a DataSync task with an EFS location requires this action, which supports no resources.
  statement {
    sid       = "NetworkInterfaces"
    actions   = ["ec2:DescribeNetworkInterfaces"]
    resources = ["*"]
  }
  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this["function"].arn}:*"]
  }
  statement {
    sid       = "Failed"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alarms.arn]
  }
  # The key of the topic. With kms_key_arn, this key also encrypts the function's variables.
  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [local.alarm_key_arn]
  }
}

resource "aws_iam_role" "function" {
  count = local.by_lambda ? 1 : 0

  name               = "${var.name}-function"
  description        = "The function starts DataSync, and the ECS task if DataSync fails"
  assume_role_policy = data.aws_iam_policy_document.function_trust.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "function" {
  count = local.by_lambda ? 1 : 0

  name   = "efs2s3"
  role   = aws_iam_role.function[0].id
  policy = data.aws_iam_policy_document.function[0].json
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_115:an account with a small limit cannot reserve any, and two concurrent invocations do no harm
  #checkov:skip=CKV_AWS_116:failures go to the topic (event invoke config), which shows more than a dead-letter queue
  #checkov:skip=CKV_AWS_117:it calls public endpoints of AWS and nothing in the VPC
  #checkov:skip=CKV_AWS_272:its code comes from the user who applies this module, and its hash identifies it
  #checkov:skip=CKV_AWS_50:each invocation sends few requests, and the log shows as much as a trace
  count = local.by_lambda ? 1 : 0

  function_name    = var.name
  description      = "Starts the DataSync task, and the direct sync if an execution fails"
  role             = aws_iam_role.function[0].arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture == "ARM64" ? "arm64" : "x86_64"]
  memory_size      = 128
  timeout          = 60
  source_code_hash = data.archive_file.function[0].output_base64sha256
  filename         = var.lambda_code_bucket == null ? data.archive_file.function[0].output_path : null
  s3_bucket        = var.lambda_code_bucket
  s3_key           = one(aws_s3_object.function[*].key)
  kms_key_arn      = var.kms_key_arn
  tags             = var.tags

  environment {
    variables = merge(
      {
        EFS2S3_TASK_ARN             = aws_datasync_task.this.arn
        EFS2S3_ECS_CLUSTER          = aws_ecs_cluster.this.arn
        EFS2S3_ECS_TASK_DEFINITION  = aws_ecs_task_definition.this.family
        EFS2S3_ECS_SUBNETS          = join(",", var.subnet_ids)
        EFS2S3_ECS_SECURITY_GROUPS  = join(",", [aws_security_group.task.id, local.efs_group_id])
        EFS2S3_ECS_ASSIGN_PUBLIC_IP = tostring(var.assign_public_ip)
      },
      local.use_fips ? { AWS_USE_FIPS_ENDPOINT = "true" } : {},
    )
  }

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.this["function"].name
  }

  depends_on = [aws_iam_role_policy.function]
}

# The next firing of the schedule is the retry.
resource "aws_lambda_function_event_invoke_config" "this" {
  count = local.by_lambda ? 1 : 0

  function_name                = aws_lambda_function.this[0].function_name
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = 240

  destination_config {
    on_failure {
      destination = aws_sns_topic.alarms.arn
    }
  }
}
