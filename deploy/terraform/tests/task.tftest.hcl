# The default: an ECS task on a schedule. `terraform test` needs no account: the provider is a mock.

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

run "by_a_task" {
  command = plan

  assert {
    condition     = aws_datasync_task.this.options[0].preserve_deleted_files == "REMOVE"
    error_message = "DataSync must delete objects without a file."
  }
  assert {
    condition     = aws_datasync_task.this.options[0].task_queueing == "DISABLED"
    error_message = "An execution must not wait behind one that hangs."
  }
  assert {
    condition     = length(aws_scheduler_schedule.this) == 1 && length(aws_lambda_function.this) == 0
    error_message = "The schedule must start the ECS task, and there must be no function."
  }
  assert {
    condition     = aws_scheduler_schedule.this[0].schedule_expression == "rate(5 minutes)"
    error_message = "The schedule must be every five minutes."
  }
  assert {
    condition     = length(aws_efs_mount_target.this) == 2 && aws_efs_file_system.this[0].encrypted
    error_message = "The module must create an encrypted file system, with a mount target in each subnet."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.nfs[0].from_port == 2049 && aws_vpc_security_group_ingress_rule.nfs[0].cidr_ipv4 == null
    error_message = "Only the group itself may use NFS."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.no_success.treat_missing_data == "breaching" && aws_cloudwatch_metric_alarm.no_success.evaluation_periods == 6
    error_message = "Half an hour without a success must be an alarm."
  }
  assert {
    condition     = alltrue([for block in aws_s3_bucket_public_access_block.this : block.block_public_policy && block.restrict_public_buckets])
    error_message = "No bucket may be public."
  }
}

run "it_keeps_what_is_gone" {
  command = plan

  variables {
    delete = false
  }

  assert {
    condition     = aws_datasync_task.this.options[0].preserve_deleted_files == "PRESERVE"
    error_message = "DataSync must delete nothing."
  }
}
