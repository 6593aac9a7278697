# The security groups of the mount targets and of their clients, and VPC endpoints for subnets without a NAT gateway.

resource "aws_security_group" "efs" {
  #checkov:skip=CKV2_AWS_5:mount targets, the ECS task and DataSync are in it, by local.efs_group_id
  count = var.efs_security_group_id == null ? 1 : 0

  name        = "${var.name}-efs"
  description = "NFS among those in the group: mount targets, the task, DataSync"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-efs" })

  lifecycle {
    precondition {
      condition     = local.create_efs
      error_message = "Name the security group of the mount targets with efs_security_group_id, because the file system exists already."
    }
  }
}

resource "aws_vpc_security_group_ingress_rule" "nfs" {
  count = length(aws_security_group.efs)

  security_group_id            = aws_security_group.efs[0].id
  description                  = "NFS from the group itself"
  referenced_security_group_id = aws_security_group.efs[0].id
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
}

resource "aws_vpc_security_group_egress_rule" "nfs" {
  count = length(aws_security_group.efs)

  security_group_id            = aws_security_group.efs[0].id
  description                  = "NFS to the group itself"
  referenced_security_group_id = aws_security_group.efs[0].id
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
}

# The connections of the ECS task to AWS. Nothing can connect to the task.
resource "aws_security_group" "task" {
  name        = "${var.name}-task"
  description = "HTTPS to AWS"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-task" })
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.task.id
  description       = "HTTPS to the endpoints of AWS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

locals {
  # The endpoints that the ECS task, its image and its logs need, besides S3. DataSync and S3 call EC2 and KMS without them.
  endpoint_services = var.create_vpc_endpoints ? toset(["datasync", "logs", "ecr.api", "ecr.dkr"]) : toset([])
}

resource "aws_security_group" "endpoints" {
  count = var.create_vpc_endpoints ? 1 : 0

  name        = "${var.name}-endpoints"
  description = "HTTPS from the task"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-endpoints" })
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  count = length(aws_security_group.endpoints)

  security_group_id            = aws_security_group.endpoints[0].id
  description                  = "HTTPS from the task"
  referenced_security_group_id = aws_security_group.task.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_endpoint" "interface" {
  for_each = local.endpoint_services

  vpc_id              = var.vpc_id
  service_name        = "com.amazonaws.${local.region}.${each.value}${local.use_fips && each.value == "datasync" ? "-fips" : ""}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = var.subnet_ids
  security_group_ids  = [aws_security_group.endpoints[0].id]
  private_dns_enabled = true
  tags                = merge(var.tags, { Name = "${var.name}-${each.value}" })
}

resource "aws_vpc_endpoint" "s3" {
  count = var.create_vpc_endpoints ? 1 : 0

  vpc_id            = var.vpc_id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.route_table_ids
  tags              = merge(var.tags, { Name = "${var.name}-s3" })

  lifecycle {
    precondition {
      condition     = length(var.route_table_ids) > 0
      error_message = "Name the subnets' route tables with route_table_ids: the gateway endpoint of S3 needs them."
    }
  }
}
