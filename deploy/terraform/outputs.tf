output "task_arn" {
  description = "The DataSync task."
  value       = aws_datasync_task.this.arn
}

output "cluster_arn" {
  description = "The cluster of the ECS task."
  value       = aws_ecs_cluster.this.arn
}

output "task_definition_arn" {
  description = "The revision of the task definition."
  value       = aws_ecs_task_definition.this.arn
}

output "run_command" {
  description = "The command that starts a run by hand."
  value = join(" ", [
    "aws ecs run-task --region ${local.region} --cluster ${aws_ecs_cluster.this.name} --launch-type FARGATE",
    "--task-definition ${aws_ecs_task_definition.this.family} --network-configuration",
    "'awsvpcConfiguration={subnets=[${join(",", var.subnet_ids)}],securityGroups=[${aws_security_group.task.id},${local.efs_group_id}],assignPublicIp=${var.assign_public_ip ? "ENABLED" : "DISABLED"}}'",
  ])
}

output "image_repository" {
  description = "The repository to push the image to, if this module created it."
  value       = one(aws_ecr_repository.this[*].repository_url)
}

output "bucket" {
  description = "The bucket of the site."
  value       = var.bucket_name
}

output "bucket_tls_policy" {
  description = "The statement to add to the policy of the site's bucket if create_bucket_policy is false."
  value       = var.create_bucket ? data.aws_iam_policy_document.tls["site"].json : null
}

output "destination" {
  description = "The destination, as s3://bucket/prefix."
  value       = local.environment.EFS2S3_DESTINATION
}

output "state" {
  description = "The state of the runs. report merge and plan take it as --state."
  value       = local.state_url
}

output "file_system_id" {
  description = "The file system."
  value       = local.file_system_id
}

output "access_point_id" {
  description = "The access point of the folder to copy."
  value       = aws_efs_access_point.this.id
}

output "security_group_ids" {
  description = "The security groups of the ECS task: for AWS's endpoints and for the file system."
  value       = [aws_security_group.task.id, local.efs_group_id]
}

output "log_group" {
  description = "The log of the runs."
  value       = aws_cloudwatch_log_group.this["task"].name
}

output "alarm_topic_arn" {
  description = "The topic of all alarms."
  value       = aws_sns_topic.alarms.arn
}

output "policies" {
  description = "The policies of the roles, for a review."
  value = {
    task      = data.aws_iam_policy_document.task.json
    execution = data.aws_iam_policy_document.execution.json
    scheduler = data.aws_iam_policy_document.scheduler.json
    function  = one(aws_iam_role_policy.function[*].policy)
    datasync  = data.aws_iam_policy_document.datasync_s3.json
    efs       = data.aws_iam_policy_document.efs.json
  }
}
