# The container, on an existing file system. `terraform test` needs no account: the provider is a mock.

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

run "the_container" {
  command = apply

  variables {
    efs_file_system_id    = "fs-0123456789abcdef0"
    efs_security_group_id = "sg-0123456789abcdef0"
    efs_path              = "/assets"
    bucket_prefix         = "www/"
    use_fips_endpoints    = true
    kms_key_arn           = "arn:aws:kms:us-east-1:111122223333:key/0123"
    environment           = { EFS2S3_MAX_DELETE = "500" }
  }

  assert {
    condition     = alltrue([for mount in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].mountPoints : mount.readOnly || mount.containerPath == "/tmp"])
    error_message = "The file system must be mounted read-only."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].readonlyRootFilesystem
    error_message = "The root file system must be read-only."
  }
  assert {
    condition = alltrue([for name, value in {
      EFS2S3_DESTINATION = "s3://my-site/www/", EFS2S3_DELETE = "true", EFS2S3_MAX_DELETE = "500", AWS_USE_FIPS_ENDPOINT = "true"
      } : contains([for one in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment : "${one.name}=${one.value}"], "${name}=${value}")
    ])
    error_message = "The container must get the module's inputs as options."
  }
  assert {
    condition     = length(aws_efs_file_system.this) == 0 && length(aws_security_group.efs) == 0 && aws_efs_access_point.this.root_directory[0].path == "/assets"
    error_message = "The module must use the existing file system, and create only the access point."
  }
  assert {
    condition     = aws_datasync_location_efs.this.access_point_arn == aws_efs_access_point.this.arn && aws_datasync_location_s3.this.subdirectory == "/www/"
    error_message = "DataSync must read the same folder as the ECS task, and write to the same prefix."
  }
  assert {
    condition     = [for volume in aws_ecs_task_definition.this.volume : volume.efs_volume_configuration[0].transit_encryption if volume.name == "efs"] == ["ENABLED"]
    error_message = "The mount must be encrypted."
  }
  assert {
    condition     = aws_sns_topic.alarms.kms_master_key_id == var.kms_key_arn && length(aws_kms_key.alarms) == 0 && aws_cloudwatch_log_group.this["task"].kms_key_id == var.kms_key_arn
    error_message = "Everything must be encrypted with kms_key_arn."
  }
}
