# With primary = "lambda": a function on a schedule. `terraform test` needs no account.

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }
  mock_data "aws_region" {
    defaults = { region = "us-east-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

mock_provider "archive" {}

variables {
  vpc_id      = "vpc-0123456789abcdef0"
  subnet_ids  = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  bucket_name = "my-site"
}

run "by_a_function" {
  command = plan

  variables {
    primary          = "lambda"
    lambda_binary    = "/tmp/bootstrap"
    architecture     = "ARM64"
    schedule_enabled = false
  }

  assert {
    condition     = length(aws_scheduler_schedule.this) == 0 && length(aws_cloudwatch_event_rule.schedule) == 1
    error_message = "A rule must call the function."
  }
  assert {
    condition     = aws_lambda_function.this[0].architectures[0] == "arm64" && aws_lambda_function.this[0].runtime == "provided.al2023"
    error_message = "The function must be the program for its architecture."
  }
  assert {
    condition     = length(aws_lambda_permission.rule) == 2 && aws_cloudwatch_event_rule.schedule[0].state == "DISABLED"
    error_message = "Both rules must be able to call the function, and the schedule must be off."
  }
  assert {
    condition     = aws_lambda_function_event_invoke_config.this[0].maximum_retry_attempts == 0
    error_message = "Lambda must not retry, because the schedule does."
  }
  assert {
    condition     = length(aws_s3_object.function) == 0
    error_message = "The code must not need a bucket."
  }
}

run "through_a_bucket" {
  command = plan

  variables {
    primary            = "lambda"
    lambda_binary      = "/tmp/bootstrap"
    lambda_code_bucket = "my-code"
  }

  assert {
    condition     = length(aws_s3_object.function) == 1 && aws_lambda_function.this[0].s3_bucket == "my-code" && aws_lambda_function.this[0].filename == null
    error_message = "The code must be in the bucket, under a name made from its content."
  }
}

run "a_function_without_its_program" {
  command = plan

  variables {
    primary = "lambda"
  }

  expect_failures = [data.archive_file.function]
}
