"""Every check of deploy/ and docker/: on a valid copy, and on copies with one error each."""
import os
import shutil
import subprocess
from pathlib import Path

import checks
import pytest
from needs import needs

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("PROGRAM", "")
COPIED = ["deploy", "docker", "docs"]


CHECKS = ["terraform_format", "terraform_valid", "terraform_tests", "policies", "template_policies", "environment/terraform",
          "environment/template", "environment/scale", "cloudformation", "state_machine", "kubernetes", "dockerfile", "scripts",
          "security", "emulator", "batch", "engines", "table"]
NEEDS = {"terraform_format": "Terraform", "state_machine": "asl-validator",
         **dict.fromkeys(["terraform_valid", "terraform_tests", "policies", "environment/terraform"], "Terraform's providers")}


def check(name, root):
    """Runs a check, or one part of it: `environment/scale`. Skips it if this machine does not have its tool."""
    name, *part = name.split("/")
    for key in [name, "/".join([name, *part])]:
        needs(NEEDS.get(key))
    function = getattr(checks, name)
    return function(root, PROGRAM, *part) if name in ("environment", "engines") else function(root, *part)


MODULE, TEMPLATE = "deploy/terraform", "deploy/cloudformation/efs2s3.yaml"
MACHINE, MANIFEST = "deploy/scale/step-functions.yaml", "deploy/scale/kubernetes/2-copy.yaml"
# The check (and its part), the file, the text in it, and the text that replaces it.
BREAKS = {
    "a line that is not formatted": ("terraform_format", f"{MODULE}/main.tf", "  region    =", "  region ="),
    "an argument that no resource has": ("terraform_valid", f"{MODULE}/ecs.tf", "  cpu                      = var.cpu", "  cpus = var.cpu"),
    "an argument that is missing": ("terraform_valid", f"{MODULE}/datasync.tf", "  s3_bucket_arn = local.bucket_arn\n", ""),
    "an attribute that no resource has": ("terraform_valid", f"{MODULE}/outputs.tf", "aws_ecs_cluster.this.arn", "aws_ecs_cluster.this.arnn"),
    "an input that the module does not have": ("terraform_valid", f"{MODULE}/examples/complete/main.tf", "  excludes = [", "  exclude = ["),
    "DataSync keeps orphans": ("terraform_tests/task", f"{MODULE}/datasync.tf", '"REMOVE"', '"PRESERVE"'),
    "an input without validation": ("terraform_tests/inputs", f"{MODULE}/variables.tf", 'contains(["ecs", "lambda"], var.primary)', "true"),
    "a writable file system": ("terraform_tests/container", f"{MODULE}/ecs.tf", "containerPath = local.mount, readOnly = true", "containerPath = local.mount, readOnly = false"),
    "an alarm that ignores missing data": ("terraform_tests/task", f"{MODULE}/alarms.tf", '= "breaching"', '= "missing"'),
    "a missing permission of the task": ("policies/us-gov-west-1", f"{MODULE}/ecs.tf", '"datasync:CancelTaskExecution",', ""),
    "an unneeded permission of the task": ("policies/us-gov-west-1", f"{MODULE}/ecs.tf", '"s3:GetObject", "s3:GetObjectTagging",', '"s3:GetObject", "s3:GetObjectAcl", "s3:GetObjectTagging",'),
    "an action that does not exist": ("policies/us-gov-west-1", f"{MODULE}/ecs.tf", '"ecr:GetAuthorizationToken"', '"ecr:GetAuthorisationToken"'),
    "a missing permission of the function": ("policies/us-gov-west-1", f"{MODULE}/schedule.tf", 'actions   = ["ecs:RunTask"]', 'actions   = ["ecs:StopTask"]'),
    "a hard-coded partition": ("policies/us-gov-west-1", f"{MODULE}/main.tf", '"arn:${local.partition}:s3:::', '"arn:aws:s3:::'),
    "a missing permission of the template's task": ("template_policies", TEMPLATE, "              - s3:AbortMultipartUpload\n              - s3:ListMultipartUploadParts\n              - !If", "              - s3:AbortMultipartUpload\n              - !If"),
    "a missing permission of the template's function": ("template_policies", TEMPLATE, "Action: [datasync:DescribeTask, datasync:StartTaskExecution, datasync:DescribeTaskExecution]", "Action: [datasync:DescribeTask, datasync:DescribeTaskExecution]"),
    "a variable of the task that no option has": ("environment/terraform", f"{MODULE}/ecs.tf", "EFS2S3_STATE      =", "EFS2S3_STATES     ="),
    "a variable that the function does not read": ("environment/terraform", f"{MODULE}/lambda.tf", "EFS2S3_ECS_CLUSTER  ", "EFS2S3_ECS_CLUSTERS "),
    "a variable of the template that no option has": ("environment/template", TEMPLATE, "Name: EFS2S3_DELETE,", "Name: EFS2S3_REMOVE,"),
    "a variable of a manifest that no option has": ("environment/scale", MANIFEST, "EFS2S3_RANGES", "EFS2S3_RANGE"),
    "a property that no resource has": ("cloudformation", TEMPLATE, "      TaskQueueing: DISABLED", "      TaskQueuing: DISABLED"),
    "an invalid value of a property": ("cloudformation", TEMPLATE, "PreserveDeletedFiles: !If [Deletes, REMOVE, PRESERVE]", "PreserveDeletedFiles: DELETE"),
    "a reference to a missing resource": ("cloudformation", "deploy/scale/batch.yaml", "ComputeEnvironment: !Ref Compute", "ComputeEnvironment: !Ref Nothing"),
    "an unreachable state": ("state_machine", MACHINE, "            Next: Delete\n", "            Next: Merge\n"),
    "a missing state": ("state_machine", MACHINE, "            Next: Merge\n", "            Next: Report\n"),
    "a missing substitution": ("state_machine", MACHINE, "        ranges: !Ref Ranges\n", ""),
    "a key that no manifest has": ("kubernetes", MANIFEST, "  completionMode: Indexed", "  completionMod: Indexed"),
    "a value of the wrong type": ("kubernetes", MANIFEST, "  completions: 16", '  completions: "16"'),
    "an image that runs as root": ("dockerfile", "docker/Dockerfile", "USER 65532:65532", "USER root"),
    "an invalid instruction": ("dockerfile", "docker/Dockerfile", "WORKDIR /src", "WORKDIR src"),
    "a script with a syntax error": ("scripts", "deploy/scale/batch-run", 'delete="$(submit', 'delete="$((submit'),
    "an unencrypted topic": ("security/terraform", f"{MODULE}/alarms.tf", '  kms_master_key_id = local.alarm_key_arn\n', ""),
    "a pod that may become root": ("security/kubernetes", MANIFEST, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"),
    "a public bucket": ("security/cloudformation", TEMPLATE, "BlockPublicPolicy: true", "BlockPublicPolicy: false"),
    "a subnet without a mount target": ("emulator", TEMPLATE, "      SubnetId: !Select [1, !Ref SubnetIds]", "      SubnetId: !Select [0, !Ref SubnetIds]"),
    "NFS from anywhere": ("emulator", TEMPLATE, "      SourceSecurityGroupId: !GetAtt FileSystemGroup.GroupId\n      IpProtocol", "      CidrIp: 0.0.0.0/0\n      IpProtocol"),
    "deletes that do not wait for the copies": ("batch", "deploy/scale/batch-run", 'submit efs2s3-delete "$copy"', 'submit efs2s3-delete "$cut"'),
    "a run without a range index": ("engines/step_functions", MACHINE, """                            - { Name: EFS2S3_RANGE_INDEX, Value.$: "States.Format('{}', $.index)" }\n""", ""),
    "a delete pass without deletes": ("engines/step_functions", MACHINE, '{ Name: EFS2S3_DELETE, Value: "true" }', '{ Name: EFS2S3_DELETE, Value: "false" }'),
    "a range list under another key": ("engines/kubernetes", "deploy/scale/kubernetes/1-cut.yaml", "value: s3://my-state/efs2s3/ranges.json", "value: s3://my-state/efs2s3/cut.json"),
    "a job with an invalid option": ("engines/batch", "deploy/scale/batch.yaml", "Command: [sync]", "Command: [sync, --compare, never]"),
    "a resource that the module does not have": ("table", "deploy/README.md", "`aws_datasync_task.this`", "`aws_datasync_task.that`"),
    "a resource that the template does not have": ("table", "deploy/README.md", "| `Task`", "| `Tasks`"),
}


@pytest.fixture
def copy(tmp_path):
    for name in COPIED:
        source = ROOT / name
        shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns(".terraform")) if source.is_dir() else shutil.copy(source, tmp_path)
    if (ROOT / ".terraform-data").exists():
        shutil.copytree(ROOT / ".terraform-data", tmp_path / ".terraform-data", symlinks=True)
    return tmp_path


@pytest.mark.parametrize("name", CHECKS)
def test_check_passes_on_a_valid_copy(name, copy):
    assert check(name, copy) == []


def test_every_check_has_an_error_to_find():
    broken = {name for name, *_ in BREAKS.values()}
    assert {name.split("/")[0] for name in broken} == {name.split("/")[0] for name in CHECKS}
    assert {name for name in CHECKS if "/" in name} <= broken


@pytest.mark.parametrize("what", BREAKS)
def test_check_finds_the_error(what, copy):
    name, file, text, replacement = BREAKS[what]
    path = copy / file
    content = path.read_text()
    assert text in content, f"{file} has changed: update BREAKS"
    path.write_text(content.replace(text, replacement))
    assert check(name, copy) != []


def test_documents_contain_the_calculated_costs():
    table = subprocess.run(["python3", str(ROOT / "docs/cost.py")], capture_output=True, text=True, check=True).stdout.strip()
    assert table in (ROOT / "docs/cost.md").read_text()
    assert table in (ROOT / "deploy/terraform/README.md").read_text()
