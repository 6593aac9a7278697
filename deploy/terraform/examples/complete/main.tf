# Everything from nothing but a VPC: the file system, the bucket, DataSync, the task, its schedule and its alarms.

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
  description = "Where; a region of GovCloud will do as well."
  type        = string
  default     = "us-east-1"
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Its private subnets."
  type        = list(string)
}

variable "bucket_name" {
  description = "The bucket of the site."
  type        = string
}

variable "alarm_email" {
  description = "Who hears of failures."
  type        = string
}

module "efs2s3" {
  source = "../.."

  vpc_id      = var.vpc_id
  subnet_ids  = var.subnet_ids
  bucket_name = var.bucket_name
  alarm_email = var.alarm_email

  # As `ecs`, the task lets DataSync do it first; `lambda` is the chain as it was, with the task behind it.
  primary  = "ecs"
  excludes = ["/cache", "*.tmp"]
}

output "efs2s3" {
  description = "What was made, and how to start a run by hand."
  value       = module.efs2s3
}
