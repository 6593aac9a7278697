# Inputs that the module refuses. `terraform test` needs no account.

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

run "wrong_inputs" {
  command = plan

  variables {
    name                = "Not A Name"
    bucket_name         = "Not_A_Bucket"
    primary             = "cron"
    schedule            = "every five minutes"
    efs_path            = "assets/../secrets"
    architecture        = "MIPS"
    cpu                 = 300
    log_retention_days  = 31
    alarm_after_minutes = 7
    environment         = { PATH = "/" }
  }

  expect_failures = [
    var.name, var.bucket_name, var.primary, var.schedule, var.efs_path, var.architecture, var.cpu, var.log_retention_days,
    var.alarm_after_minutes, var.environment,
  ]
}

run "a_file_system_without_its_group" {
  command = plan

  variables {
    efs_file_system_id = "fs-0123456789abcdef0"
  }

  expect_failures = [aws_security_group.efs]
}
