variable "name" {
  description = "The name of each resource, or the start of its name."
  type        = string
  default     = "efs2s3"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "The name has 2 to 31 characters of a-z, 0-9 and '-', and starts with a letter."
  }
}

variable "tags" {
  description = "The tags of each resource that supports tags."
  type        = map(string)
  default     = {}
}

# --- the network ---

variable "vpc_id" {
  description = "The VPC of the file system."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets for mount targets, ECS tasks and DataSync, each in another availability zone. Private subnets need a NAT gateway or create_vpc_endpoints to reach AWS."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "Name at least one subnet."
  }
}

variable "assign_public_ip" {
  description = "Whether the ECS task gets a public address. In public subnets it needs one to reach AWS."
  type        = bool
  default     = false
}

variable "create_vpc_endpoints" {
  description = "Whether to create the VPC endpoints that the ECS task needs in subnets without a NAT gateway."
  type        = bool
  default     = false
}

variable "route_table_ids" {
  description = "The route tables of the subnets, for the gateway endpoint of S3. Needed with create_vpc_endpoints."
  type        = list(string)
  default     = []
}

variable "use_fips_endpoints" {
  description = "Whether to use the FIPS endpoints of AWS. Null: only in GovCloud."
  type        = bool
  default     = null
}

# --- the file system ---

variable "efs_file_system_id" {
  description = "An existing file system, with mount targets in the subnets. Null: the module creates a file system."
  type        = string
  default     = null
}

variable "efs_security_group_id" {
  description = "The security group of the mount targets of efs_file_system_id. It must allow TCP 2049 from itself. Null: the module creates a group for its own file system."
  type        = string
  default     = null
}

variable "efs_path" {
  description = "The folder of the file system to copy. efs_posix_user must be able to read everything below it."
  type        = string
  default     = "/"

  validation {
    condition     = startswith(var.efs_path, "/") && !can(regex("//|/\\.\\.?(/|$)", var.efs_path))
    error_message = "Write the folder as an absolute path, such as /assets."
  }
}

variable "efs_posix_user" {
  description = "The user and group that read the files, whatever the container's user is: root, or the owner of the files."
  type        = object({ uid = number, gid = number })
  default     = { uid = 0, gid = 0 }
}

# --- the bucket ---

variable "bucket_name" {
  description = "The bucket of the site."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "A bucket's name has 3 to 63 characters of a-z, 0-9, '.' and '-'."
  }
}

variable "create_bucket" {
  description = "Whether to create the bucket, with public access blocked, encryption, TLS only and a rule that deletes unfinished uploads."
  type        = bool
  default     = true
}

variable "create_bucket_policy" {
  description = "Whether the new bucket gets a policy (TLS only). A bucket has one policy: if you make it elsewhere, set this to false and add the output bucket_tls_policy to your policy."
  type        = bool
  default     = true
}

variable "bucket_versioning" {
  description = "Whether the new bucket keeps old versions, so that you can undo deletes."
  type        = bool
  default     = true
}

variable "bucket_prefix" {
  description = "The prefix of the keys: the folder of the bucket that holds the copy."
  type        = string
  default     = ""

  validation {
    condition     = !startswith(var.bucket_prefix, "/") && !can(regex("//", var.bucket_prefix))
    error_message = "Write the prefix without a leading '/', such as www."
  }
}

variable "kms_key_arn" {
  description = "The KMS key of bucket, state, logs and alarms. Null: the default encryption of each service."
  type        = string
  default     = null
}

# --- how it runs ---

variable "primary" {
  description = "What the schedule starts. `ecs`: the ECS task, which runs the DataSync task first. `lambda`: a function that starts DataSync, and the ECS task if an execution fails."
  type        = string
  default     = "ecs"

  validation {
    condition     = contains(["ecs", "lambda"], var.primary)
    error_message = "Choose ecs or lambda."
  }
}

variable "schedule" {
  description = "The schedule, as rate(…) or cron(…)."
  type        = string
  default     = "rate(5 minutes)"

  validation {
    condition     = can(regex("^(rate|cron)\\(.+\\)$", var.schedule))
    error_message = "Write the schedule as rate(5 minutes) or cron(0/5 * * * ? *)."
  }
}

variable "schedule_enabled" {
  description = "Whether the schedule is on. If it is off, you start runs by hand."
  type        = bool
  default     = true
}

variable "delete" {
  description = "Whether to delete objects without a file (DataSync's PreserveDeletedFiles=REMOVE). With primary = \"ecs\" the program deletes, under its guards. With primary = \"lambda\" DataSync deletes itself, without a guard."
  type        = bool
  default     = true
}

variable "excludes" {
  description = "The paths not to copy, as DataSync patterns, such as /cache or *.tmp."
  type        = list(string)
  default     = []
}

variable "environment" {
  description = "More options of the program, by the names of their variables: { EFS2S3_MAX_DELETE = \"500\" }."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^(EFS2S3|AWS|RUST)_[A-Z0-9_]+$", name))])
    error_message = "Names of options start with EFS2S3_ (efs2s3 run --help lists them), names of SDK settings with AWS_. The log level is RUST_LOG."
  }
}

variable "image" {
  description = "The image, in a registry that the ECS task can reach. Null: the tag image_tag in a repository that the module creates. Push the image there."
  type        = string
  default     = null
}

variable "image_tag" {
  description = "The tag of the image in the new repository."
  type        = string
  default     = "latest"
}

variable "architecture" {
  description = "The architecture of the image and of the function."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.architecture)
    error_message = "Choose X86_64 or ARM64."
  }
}

variable "cpu" {
  description = "CPU units of the ECS task. 1024 units are one CPU."
  type        = number
  default     = 512

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.cpu)
    error_message = "Choose 256, 512, 1024, 2048, 4096, 8192 or 16384."
  }
}

variable "memory" {
  description = "Memory of the ECS task in MiB. Fargate has 2 to 8 GiB for each CPU."
  type        = number
  default     = 1024
}

variable "lambda_binary" {
  description = "The program for the function, a file called bootstrap (docker/README.md). Needed with primary = \"lambda\"."
  type        = string
  default     = null
}

variable "lambda_code_bucket" {
  description = "A bucket for the function's code, if your account requires one. Null: Terraform uploads the code directly to Lambda."
  type        = string
  default     = null
}

# --- logs and alarms ---

variable "log_retention_days" {
  description = "The days to keep logs."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "Choose 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "alarm_email" {
  description = "The address that receives the alarms. Null: no address is subscribed to the topic."
  type        = string
  default     = null
}

variable "alarm_after_minutes" {
  description = "Raise an alarm if no run succeeds for this many minutes. It also detects a run that hangs without an error."
  type        = number
  default     = 30

  validation {
    condition     = var.alarm_after_minutes >= 10 && var.alarm_after_minutes <= 1440 && var.alarm_after_minutes % 5 == 0
    error_message = "Choose a multiple of 5 from 10 to 1440."
  }
}
