# Logs and alarms: for a run that fails, for a run that never starts, and if no run succeeds for some time. The last alarm
# also detects a chain that hangs.

locals {
  log_groups = merge(
    { task = "/${var.name}/task", datasync = "/${var.name}/datasync" },
    local.by_lambda ? { function = "/${var.name}/function" } : {},
  )
  # The last line of a run, and the function's log line for an execution that succeeded (README.md, "Logs").
  success = local.by_ecs ? {
    task = "{ $.message = \"* exit 0\" }"
    } : {
    task     = "{ $.message = \"* exit 0\" }"
    function = "{ $.message = \"answered\" && $.answer = \"*SUCCESS*\" }"
  }
}

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_338:log_retention_days sets the retention, and the state keeps the reports
  for_each = local.log_groups

  name              = each.value
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "aws_cloudwatch_log_metric_filter" "success" {
  for_each = local.success

  name           = "${var.name}-success-${each.key}"
  log_group_name = aws_cloudwatch_log_group.this[each.key].name
  pattern        = each.value

  metric_transformation {
    namespace = var.name
    name      = "Success"
    value     = "1"
  }
}

# With the AWS managed key of SNS, CloudWatch and EventBridge could not publish, and their messages would be lost.
locals {
  alarm_key_arn = var.kms_key_arn == null ? aws_kms_key.alarms[0].arn : var.kms_key_arn
}

data "aws_iam_policy_document" "alarm_key" {
  #checkov:skip=CKV_AWS_109:a key policy applies only to its own key
  #checkov:skip=CKV_AWS_111:a key policy applies only to its own key
  #checkov:skip=CKV_AWS_356:a key policy applies only to its own key
  statement {
    sid       = "Account"
    actions   = ["kms:*"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
    }
  }
  statement {
    sid       = "Publishers"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = ["*"]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com", "cloudwatch.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_kms_key" "alarms" {
  count = var.kms_key_arn == null ? 1 : 0

  description         = "Alarms of ${var.name}"
  enable_key_rotation = true
  policy              = data.aws_iam_policy_document.alarm_key.json
  tags                = var.tags
}

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = local.alarm_key_arn
  tags              = var.tags
}

resource "aws_sns_topic_subscription" "email" {
  count = var.alarm_email == null ? 0 : 1

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

data "aws_iam_policy_document" "alarms" {
  statement {
    sid       = "EventBridgeAndCloudWatch"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alarms.arn]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com", "cloudwatch.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_sns_topic_policy" "alarms" {
  arn    = aws_sns_topic.alarms.arn
  policy = data.aws_iam_policy_document.alarms.json
}

resource "aws_cloudwatch_metric_alarm" "no_success" {
  alarm_name          = "${var.name}-no-success"
  alarm_description   = "No run has succeeded for ${var.alarm_after_minutes} minutes, so the site may be outdated. docs/runbook.md lists what to check."
  namespace           = var.name
  metric_name         = "Success"
  statistic           = "Sum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 300
  evaluation_periods  = var.alarm_after_minutes / 5
  # If everything hangs, there is no data at all.
  treat_missing_data = "breaching"
  actions_enabled    = var.schedule_enabled
  alarm_actions      = [aws_sns_topic.alarms.arn]
  ok_actions         = [aws_sns_topic.alarms.arn]
  tags               = var.tags
}

resource "aws_cloudwatch_metric_alarm" "not_started" {
  alarm_name          = "${var.name}-not-started"
  alarm_description   = "The schedule could not start a run: the queue ${var.name}-not-started holds the reason."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.not_started.name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  tags                = var.tags
}

# Matches a run that exited with neither 0 (done) nor 11 (another run holds the lease), and a container that never ran and so
# has no exit code.
resource "aws_cloudwatch_event_rule" "failed" {
  name        = "${var.name}-failed"
  description = "A run failed or could not start"
  tags        = var.tags
  event_pattern = jsonencode({
    source      = ["aws.ecs"]
    detail-type = ["ECS Task State Change"]
    detail = {
      clusterArn = [aws_ecs_cluster.this.arn]
      group      = ["family:${aws_ecs_task_definition.this.family}"]
      lastStatus = ["STOPPED"]
      containers = { exitCode = [{ anything-but = [0, 11] }, { exists = false }] }
    }
  })
}

resource "aws_cloudwatch_event_target" "failed" {
  rule = aws_cloudwatch_event_rule.failed.name
  arn  = aws_sns_topic.alarms.arn

  input_transformer {
    input_paths = {
      code   = "$.detail.containers[0].exitCode"
      reason = "$.detail.stoppedReason"
      task   = "$.detail.taskArn"
    }
    input_template = "\"efs2s3: <task> ended with exit code <code> (<reason>). docs/runbook.md explains it; the log group is ${local.log_groups.task}.\""
  }
}
