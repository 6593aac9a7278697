# The schedule, by default every five minutes: EventBridge Scheduler starts the ECS task, or a rule of EventBridge calls the
# function. If another run holds the lease, a run exits with 11, which is not an error.

locals {
  by_ecs    = var.primary == "ecs"
  by_lambda = var.primary == "lambda"
  tasks_arn = "arn:${local.partition}:ecs:${local.region}:${local.account}:task-definition/${aws_ecs_task_definition.this.family}"
}

# --- primary = "ecs" ---

data "aws_iam_policy_document" "scheduler_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

data "aws_iam_policy_document" "start_task" {
  statement {
    sid       = "Start"
    actions   = ["ecs:RunTask"]
    resources = [local.tasks_arn, "${local.tasks_arn}:*"]
    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }
  statement {
    sid       = "Roles"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.task.arn, aws_iam_role.execution.arn]
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "scheduler" {
  count = local.by_ecs ? 1 : 0

  name               = "${var.name}-scheduler"
  description        = "EventBridge Scheduler starts the ECS task"
  assume_role_policy = data.aws_iam_policy_document.scheduler_trust.json
  tags               = var.tags
}

data "aws_iam_policy_document" "scheduler" {
  source_policy_documents = [data.aws_iam_policy_document.start_task.json]

  statement {
    sid       = "NotStarted"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.not_started.arn]
  }
}

resource "aws_iam_role_policy" "scheduler" {
  count = local.by_ecs ? 1 : 0

  name   = "start"
  role   = aws_iam_role.scheduler[0].id
  policy = data.aws_iam_policy_document.scheduler.json
}

resource "aws_scheduler_schedule" "this" {
  #checkov:skip=CKV_AWS_297:it names an ECS task and holds no secret
  count = local.by_ecs ? 1 : 0

  name                = var.name
  description         = "Starts the ECS task"
  schedule_expression = var.schedule
  state               = var.schedule_enabled ? "ENABLED" : "DISABLED"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_ecs_cluster.this.arn
    role_arn = aws_iam_role.scheduler[0].arn

    ecs_parameters {
      # Without a revision, so that the schedule starts the latest one.
      task_definition_arn = local.tasks_arn
      launch_type         = "FARGATE"
      task_count          = 1

      network_configuration {
        subnets          = var.subnet_ids
        security_groups  = [aws_security_group.task.id, local.efs_group_id]
        assign_public_ip = var.assign_public_ip
      }
    }

    # The next firing of the schedule is the retry.
    retry_policy {
      maximum_retry_attempts       = 0
      maximum_event_age_in_seconds = 60
    }
    dead_letter_config {
      arn = aws_sqs_queue.not_started.arn
    }
  }
}

# --- primary = "lambda" ---

resource "aws_cloudwatch_event_rule" "schedule" {
  count = local.by_lambda ? 1 : 0

  name                = var.name
  description         = "Starts the DataSync task"
  schedule_expression = var.schedule
  state               = var.schedule_enabled ? "ENABLED" : "DISABLED"
  tags                = var.tags
}

resource "aws_cloudwatch_event_rule" "ended" {
  count = local.by_lambda ? 1 : 0

  name        = "${var.name}-ended"
  description = "An execution of the DataSync task has ended"
  tags        = var.tags
  event_pattern = jsonencode({
    source      = ["aws.datasync"]
    detail-type = ["DataSync Task Execution State Change"]
    resources   = [{ prefix = "${aws_datasync_task.this.arn}/execution/" }]
    detail      = { State = ["SUCCESS", "ERROR"] }
  })
}

resource "aws_cloudwatch_event_target" "function" {
  for_each = local.by_lambda ? { schedule = aws_cloudwatch_event_rule.schedule[0], ended = aws_cloudwatch_event_rule.ended[0] } : {}

  rule = each.value.name
  arn  = aws_lambda_function.this[0].arn

  dead_letter_config {
    arn = aws_sqs_queue.not_started.arn
  }
}

resource "aws_lambda_permission" "rule" {
  for_each = local.by_lambda ? { schedule = aws_cloudwatch_event_rule.schedule[0], ended = aws_cloudwatch_event_rule.ended[0] } : {}

  statement_id  = each.key
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.this[0].function_name
  principal     = "events.amazonaws.com"
  source_arn    = each.value.arn
}

# --- runs that could not start ---

resource "aws_sqs_queue" "not_started" {
  name                              = "${var.name}-not-started"
  message_retention_seconds         = 1209600
  sqs_managed_sse_enabled           = var.kms_key_arn == null ? true : null
  kms_master_key_id                 = var.kms_key_arn
  kms_data_key_reuse_period_seconds = var.kms_key_arn == null ? null : 3600
  tags                              = var.tags
}

data "aws_iam_policy_document" "not_started" {
  statement {
    sid       = "EventBridge"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.not_started.arn]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_sqs_queue_policy" "not_started" {
  queue_url = aws_sqs_queue.not_started.id
  policy    = data.aws_iam_policy_document.not_started.json
}
