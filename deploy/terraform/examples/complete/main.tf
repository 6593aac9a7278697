# Everything in an existing VPC: the file system, the bucket, DataSync, the ECS task, its schedule and its alarms.

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0"
    }
  }
}

provider "aws" {
  region = var.region
}

variable "region" {
  description = "The region, which may be in GovCloud."
  type        = string
  default     = "us-east-1"
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "The private subnets of the VPC."
  type        = list(string)
}

variable "bucket_name" {
  description = "The bucket of the site."
  type        = string
}

variable "alarm_email" {
  description = "The address that receives the alarms."
  type        = string
}

module "efs2s3" {
  source = "../.."

  vpc_id      = var.vpc_id
  subnet_ids  = var.subnet_ids
  bucket_name = var.bucket_name
  alarm_email = var.alarm_email

  # With `ecs`, the ECS task runs the DataSync task first. With `lambda`, a function starts DataSync, and the ECS task if
  # DataSync fails.
  primary  = "ecs"
  excludes = ["/cache", "*.tmp"]
}

output "efs2s3" {
  description = "The resources, and the command that starts a run by hand."
  value       = module.efs2s3
}
