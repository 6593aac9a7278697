variable "name" {
  description = "What everything is called, or begins with."
  type        = string
  default     = "efs2s3"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "The name has 2 to 31 characters of a-z, 0-9 and '-', and begins with a letter."
  }
}

variable "tags" {
  description = "Tags of everything that can have some."
  type        = map(string)
  default     = {}
}

# --- where ---

variable "vpc_id" {
  description = "The VPC of the file system."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets for mount targets, tasks and DataSync, each in another availability zone. Private ones need a way to AWS: a NAT gateway, or create_vpc_endpoints."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "Name at least one subnet."
  }
}

variable "assign_public_ip" {
  description = "Whether the task gets a public address: in public subnets it reaches AWS only so."
  type        = bool
  default     = false
}

variable "create_vpc_endpoints" {
  description = "Whether to create the VPC endpoints that the task needs where there is no NAT gateway."
  type        = bool
  default     = false
}

variable "route_table_ids" {
  description = "The route tables of the subnets, for the gateway endpoint of S3. Needed with create_vpc_endpoints."
  type        = list(string)
  default     = []
}

variable "use_fips_endpoints" {
  description = "Whether to use the FIPS endpoints of AWS. Null: in GovCloud alone."
  type        = bool
  default     = null
}

# --- the file system ---

variable "efs_file_system_id" {
  description = "A file system that is there already, with mount targets in the subnets. Null: one is created."
  type        = string
  default     = null
}

variable "efs_security_group_id" {
  description = "The security group of the mount targets of efs_file_system_id: it is to let in TCP 2049 from itself. Null: one is created, for a file system that is created."
  type        = string
  default     = null
}

variable "efs_path" {
  description = "The folder of the file system that is copied. Everything below it is readable with efs_posix_user."
  type        = string
  default     = "/"

  validation {
    condition     = startswith(var.efs_path, "/") && !can(regex("//|/\\.\\.?(/|$)", var.efs_path))
    error_message = "Write the folder as an absolute path, such as /assets."
  }
}

variable "efs_posix_user" {
  description = "As whom files are read, whatever the container runs as: root, or the owner of the files."
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
  description = "Whether to create the bucket, with public access blocked, encryption, TLS only and a rule for uploads that were left."
  type        = bool
  default     = true
}

variable "create_bucket_policy" {
  description = "Whether a bucket that is created gets a policy (TLS only). A bucket has one policy: set this to false where yours is made elsewhere, and add the output bucket_tls_policy to it."
  type        = bool
  default     = true
}

variable "bucket_versioning" {
  description = "Whether a bucket that is created keeps old versions: deletes can then be taken back."
  type        = bool
  default     = true
}

variable "bucket_prefix" {
  description = "What the keys begin with: the folder of the bucket that is kept like the file system."
  type        = string
  default     = ""

  validation {
    condition     = !startswith(var.bucket_prefix, "/") && !can(regex("//", var.bucket_prefix))
    error_message = "Write the prefix without a '/' in front, such as www."
  }
}

variable "kms_key_arn" {
  description = "The KMS key of bucket, state, logs and alarms. Null: S3's and AWS's own encryption."
  type        = string
  default     = null
}

# --- how it runs ---

variable "primary" {
  description = "What the schedule starts. `ecs`: the task, which lets DataSync do it first. `lambda`: a function that starts DataSync, as in the plain original; the task is started where an execution fails."
  type        = string
  default     = "ecs"

  validation {
    condition     = contains(["ecs", "lambda"], var.primary)
    error_message = "Choose ecs or lambda."
  }
}

variable "schedule" {
  description = "When it runs: rate(…) or cron(…)."
  type        = string
  default     = "rate(5 minutes)"

  validation {
    condition     = can(regex("^(rate|cron)\\(.+\\)$", var.schedule))
    error_message = "Write the schedule as rate(5 minutes) or cron(0/5 * * * ? *)."
  }
}

variable "schedule_enabled" {
  description = "Whether the schedule is on. Off, the system is there for runs by hand."
  type        = bool
  default     = true
}

variable "delete" {
  description = "Whether objects without a file are deleted (DataSync's PreserveDeletedFiles=REMOVE)."
  type        = bool
  default     = true
}

variable "excludes" {
  description = "What is not copied: DataSync patterns, such as /cache or *.tmp."
  type        = list(string)
  default     = []
}

variable "environment" {
  description = "Further options of the program, by the names of their variables: { EFS2S3_MAX_DELETE = \"500\" }."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^(EFS2S3|AWS|RUST)_[A-Z0-9_]+$", name))])
    error_message = "Options begin with EFS2S3_ (efs2s3 run --help names them), settings of the SDK with AWS_, the log level is RUST_LOG."
  }
}

variable "image" {
  description = "The image, in a registry that the task can reach. Null: tag image_tag of a repository that is created, for you to push to."
  type        = string
  default     = null
}

variable "image_tag" {
  description = "The tag in the repository that is created."
  type        = string
  default     = "latest"
}

variable "architecture" {
  description = "What the image and the function were built for."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.architecture)
    error_message = "Choose X86_64 or ARM64."
  }
}

variable "cpu" {
  description = "CPU units of the task; 1024 are one."
  type        = number
  default     = 512

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.cpu)
    error_message = "Fargate has 256, 512, 1024, 2048, 4096, 8192 and 16384."
  }
}

variable "memory" {
  description = "Memory of the task in MiB; Fargate has 2 to 8 GiB for each CPU."
  type        = number
  default     = 1024
}

variable "lambda_binary" {
  description = "The program for the function, a file called bootstrap (docker/README.md). Needed with primary = \"lambda\"."
  type        = string
  default     = null
}

variable "lambda_code_bucket" {
  description = "A bucket through which the function's code goes, for those who must. Null: it goes straight to Lambda."
  type        = string
  default     = null
}

# --- what is said ---

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch has 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 and 3653 days."
  }
}

variable "alarm_email" {
  description = "Who hears of failures. Null: nobody is subscribed to the topic."
  type        = string
  default     = null
}

variable "alarm_after_minutes" {
  description = "Without a success for so long there is an alarm: it catches what hangs and reports no error."
  type        = number
  default     = 30

  validation {
    condition     = var.alarm_after_minutes >= 10 && var.alarm_after_minutes <= 1440 && var.alarm_after_minutes % 5 == 0
    error_message = "Choose a multiple of 5 from 10 to 1440."
  }
}
