"""The checks of deploy/ and docker/. Each takes the root of a checkout and returns a list of errors, which is empty if all is well.

test_checks.py runs them on this checkout, and on copies with one error each.
"""
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import yaml

TERRAFORM = os.path.abspath(os.environ["TERRAFORM"]) if "/" in os.environ.get("TERRAFORM", "") else os.environ.get("TERRAFORM", "terraform")
REGIONS = ["us-east-1", "us-gov-west-1"]
KUBERNETES = ["1.32", "1.37"]


def run(*command, cwd=None, **environment):
    """Returns the output of a command if it fails, as lines."""
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode == 0:
        return []
    return [line for line in (done.stdout + done.stderr).splitlines() if line.strip()] or [f"{command[0]} failed"]


def templates(root):
    return sorted(path for path in (root / "deploy").rglob("*.yaml") if "kubernetes" not in path.parts)


def manifests(root):
    return sorted((root / "deploy/scale/kubernetes").glob("*.yaml"))


# --- Terraform ---

def terraform(root, folder, *words, region="us-east-1"):
    """Runs Terraform in a directory that `tests/tools` has initialised."""
    settings = {"TF_DATA_DIR": str(root / ".terraform-data" / folder), "AWS_REGION": region, "TF_IN_AUTOMATION": "1"}
    return run(TERRAFORM, f"-chdir={root / 'deploy/terraform' / folder}", *words, **settings)


def terraform_format(root):
    return run(TERRAFORM, "fmt", "-check", "-recursive", str(root / "deploy"))


def terraform_valid(root):
    return [line for folder in ["", "examples/complete"] for line in terraform(root, folder, "validate", "-no-color")]


def terraform_tests(root, only=None):
    return terraform(root, "", "test", "-no-color", *([f"-filter=tests/{only}.tftest.hcl"] if only else []))


SETTINGS = """
vpc_id      = "vpc-0123456789abcdef0"
subnet_ids  = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
bucket_name = "my-site"
bucket_prefix = "www"
alarm_email = "web@example.com"
create_vpc_endpoints = true
route_table_ids = ["rtb-0123456789abcdef0"]
excludes = ["/cache", "*.tmp"]
"""


def applied(root, region="us-east-1", settings=""):
    """Applies the module. Returns the state, or the errors."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "bootstrap"
        program.write_bytes(b"program")
        given = Path(folder) / "given.tfvars"
        given.write_text(SETTINGS + settings.replace("BOOTSTRAP", str(program)))
        state = Path(folder) / "state"
        words = ["apply", "-auto-approve", "-input=false", "-no-color", f"-state={state}", f"-var-file={given}"]
        wrong = terraform(root, "", *words, region=region)
        if wrong:
            return None, wrong
        shown = subprocess.run([TERRAFORM, "show", "-json", str(state)], cwd=root / "deploy/terraform", text=True, capture_output=True,
                               env={**os.environ, "TF_DATA_DIR": str(root / ".terraform-data")}, check=True)
        return json.loads(shown.stdout)["values"], []


def resources(values):
    return {resource["address"]: resource["values"] for resource in values["root_module"]["resources"]}


# --- the program ---

def documented(root, *rows):
    """The actions in these rows of the reference's table of permissions, which tests/it/permissions.rs compares with requests."""
    lines = (root / "docs/reference.md").read_text().splitlines()
    found = set()
    for row in rows:
        line, = [line for line in lines if line.startswith(f"| {row}")]
        found |= set(re.findall(r"`((?:s3|kms|datasync|ec2|ecs|iam|elasticfilesystem):[A-Z]\w+)`", line))
    return found


DIRECT = ["the direct sync, on the bucket", "the direct sync, on the objects", "resumed uploads"]
STATE = ["`--state s3://…`"]
TASK = [*DIRECT, *STATE, "`run`, on the task", "`run`, on the locations", "the mount"]
FUNCTION = ["the Lambda function"]
# What Lambda itself does with the function's role: write the log, and publish a failure to an encrypted topic.
OWN = {"logs:CreateLogStream", "logs:PutLogEvents", "sns:Publish"}
KEY = {"kms:Decrypt", "kms:GenerateDataKey"}


def options(program):
    """The variables that each command supports."""
    known = {}
    for command in ["run", "sync", "ranges", "report merge"]:
        text = subprocess.run([program, *command.split(), "--help"], capture_output=True, text=True, check=True).stdout
        known[command] = set(re.findall(r"\[env: (EFS2S3_\w+)=", text))
    return known


def function_variables(root):
    text = (root / "docs/reference.md").read_text()
    table = text[text.index("## Lambda function"):text.index("## Report")]
    return set(re.findall(r"`(EFS2S3_\w+)`", "\n".join(line for line in table.splitlines() if line.startswith("|"))))


# --- policies ---

def statements(policy):
    document = json.loads(policy) if isinstance(policy, str) else policy
    return document["Statement"]


def actions(*policies):
    found = set()
    for policy in policies:
        for statement in statements(policy):
            one = statement["Action"]
            found |= {one} if isinstance(one, str) else {action for action in one if isinstance(action, str)}
    return found


def difference(what, have, want):
    wrong = [f"{what}: the program needs {action}, which is not allowed" for action in sorted(want - have)]
    return wrong + [f"{what}: {action} is allowed, but nothing needs it" for action in sorted(have - want)]


SETTINGS_BY_REGION = {"us-gov-west-1": 'primary = "lambda"\nlambda_binary = "BOOTSTRAP"\n', "us-east-1": ""}


def policies(root, only=None):
    """The policies allow exactly what the documents name. They are valid, and their ARNs are of the right partition."""
    wrong = []
    for region, settings in SETTINGS_BY_REGION.items():
        if only and region != only:
            continue
        values, failed = applied(root, region, settings)
        if failed:
            return failed
        made = values["outputs"]["policies"]["value"]
        wrong += difference("the task", actions(made["task"]), documented(root, *TASK))
        if made["function"]:
            wrong += difference("the function", actions(made["function"]), documented(root, *FUNCTION) | OWN | KEY)
        for name, policy in made.items():
            if policy:
                wrong += [f"{name}: {one}" for one in policy_findings(policy)]
        partition = "aws-us-gov" if region.startswith("us-gov") else "aws"
        texts = json.dumps([resource.get("policy") for resource in resources(values).values()])
        wrong += [f"{region}: {arn}" for arn in re.findall(r"arn:aws[a-z-]*:", texts) if arn != f"arn:{partition}:"]
    return wrong


def policy_findings(policy):
    from parliament import analyze_policy_string
    found = analyze_policy_string(policy if isinstance(policy, str) else json.dumps(policy)).findings
    # parliament does not support resource policies and ARNs of other partitions.
    return [str(one) for one in found if one.issue not in {"RESOURCE_MISMATCH", "UNKNOWN_PRINCIPAL"}]


class Template(yaml.SafeLoader):
    """A template of CloudFormation; `!Ref x` is read as `Ref x`."""


Template.add_multi_constructor("!", lambda loader, suffix, node: f"{suffix} {node.value}" if isinstance(node, yaml.ScalarNode)
                               else [suffix, loader.construct_sequence(node, deep=True)] if isinstance(node, yaml.SequenceNode)
                               else [suffix, loader.construct_mapping(node, deep=True)])


def template(path):
    return yaml.load(path.read_text(), Template)


def template_policies(root):
    """The template's policies allow exactly what the documents name."""
    made = template(root / "deploy/cloudformation/efs2s3.yaml")["Resources"]

    def of_role(role):
        inline = [policy["PolicyDocument"] for policy in made[role]["Properties"].get("Policies", [])]
        apart = [one["Properties"]["PolicyDocument"] for one in made.values()
                 if one["Type"] == "AWS::IAM::RolePolicy" and one["Properties"]["RoleName"] == f"Ref {role}"]
        documents = [{"Statement": [plain(statement) for statement in document["Statement"]]} for document in inline + apart]
        return actions(*documents)

    def plain(statement):
        if "Fn::If" in statement:
            return {"Action": []}
        one = statement["Action"]
        return {"Action": [action[1][1] if isinstance(action, list) else action for action in one] if isinstance(one, list) else one}

    wrong = difference("TaskRole", of_role("TaskRole"), documented(root, *TASK))
    return wrong + difference("FunctionRole", of_role("FunctionRole"), documented(root, *FUNCTION) | OWN | KEY)


# --- variables ---

def environment(root, program, only=None):
    """Every variable of an ECS task or a function is one that its command supports."""
    known, wrong = options(program), []

    def check(what, names, allowed):
        wrong.extend(f"{what}: the program does not support {name}" for name in names if name.startswith("EFS2S3_") and name not in allowed)

    if only in (None, "terraform"):
        values, failed = applied(root, settings=SETTINGS_BY_REGION["us-gov-west-1"])
        if failed:
            return failed
        made = resources(values)
        container = json.loads(made["aws_ecs_task_definition.this"]["container_definitions"])[0]
        check("Terraform's task", [one["name"] for one in container["environment"]], known["run"])
        check("Terraform's function", made["aws_lambda_function.this[0]"]["environment"][0]["variables"], function_variables(root))
    if only in (None, "template"):
        made = template(root / "deploy/cloudformation/efs2s3.yaml")["Resources"]
        container = made["TaskDefinition"]["Properties"]["ContainerDefinitions"][0]
        check("the template's task", [one["Name"] for one in container["Environment"]], known["run"])
        check("the template's function", made["Function"]["Properties"]["Environment"]["Variables"], function_variables(root))
    if only in (None, "scale"):
        for path in [*(root / "deploy/scale").glob("*.yaml"), *manifests(root), root / "deploy/scale/batch-run", root / "docker/Dockerfile"]:
            check(path.name, re.findall(r"\bEFS2S3_[A-Z_]+\b", path.read_text()), set().union(*known.values()))
    return wrong


# --- linters ---

def cloudformation(root):
    return run("cfn-lint", "--regions", *REGIONS, "--", *map(str, templates(root)))


def state_machine(root):
    """The definition is valid, after the substitutions of the template."""
    made = template(root / "deploy/scale/step-functions.yaml")["Resources"]["StateMachine"]["Properties"]
    text = json.dumps(made["Definition"])
    wrong = [f"{name} is not substituted" for name in set(re.findall(r"\$\{([a-z_]+)\}", text)) - set(made["DefinitionSubstitutions"])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "definition.asl.json"
        path.write_text(re.sub(r"Sub (arn:)\$\{AWS::Partition\}", r"\1aws", text))
        return wrong + run("asl-validator", "--json-path", str(path))


def kubernetes(root):
    files = list(map(str, manifests(root)))
    return [line for version in KUBERNETES for line in run("kubernetes-validate", "--strict", "--no-warn", "--quiet", "-k", version, *files)]


def dockerfile(root):
    return run("hadolint", str(root / "docker/Dockerfile"))


def scripts(root):
    paths = [root / "deploy/cloudformation/package", root / "deploy/scale/batch-run"]
    return [line for path in paths for line in run("bash", "-n", str(path))]


FRAMEWORKS = {"terraform": "deploy/terraform", "cloudformation": "deploy", "kubernetes": "deploy/scale/kubernetes", "dockerfile": "docker"}


def security(root, only=None):
    """Misconfigurations that checkov finds. Each exception is next to its resource, with its reason."""
    wrong = []
    for framework, folder in FRAMEWORKS.items():
        if only and framework != only:
            continue
        done = subprocess.run(["checkov", "-d", str(root / folder), "--framework", framework, "--compact", "--quiet", "--skip-download",
                               "-o", "json", "--skip-check", ",".join(NOT_APPLICABLE)],
                              capture_output=True, text=True)
        found = json.loads(done.stdout or "[]")
        for part in found if isinstance(found, list) else [found]:
            for one in part.get("results", {}).get("failed_checks", []):
                wrong.append(f"{framework}: {one['check_id']} {one['check_name']} ({one['resource']})")
    return wrong


NOT_APPLICABLE = {
    "CKV_DOCKER_2",  # HEALTHCHECK: a run ends, and its exit code shows the result
    "CKV_K8S_8", "CKV_K8S_9",  # probes: the same reason
    "CKV_K8S_11",  # a CPU limit would only slow a run down
    "CKV_K8S_14", "CKV_K8S_43",  # the user fills in the digest of the image
    "CKV_K8S_15",  # imagePullPolicy Always: the same reason
    "CKV_K8S_38",  # IRSA needs the service account's token, and the account does not mount it automatically
    "CKV_K8S_40",  # 65532 is high enough not to be a user of the host
    "CKV2_K8S_6",  # a network policy belongs to the cluster
}


# --- an emulator ---

def emulator(root):
    """Creates the template on moto, and checks the resources that moto supports."""
    import boto3
    import moto
    try:
        with moto.mock_aws():
            return created(root, boto3)
    except Exception as error:  # moto raises errors of several types
        return [str(error)]


def created(root, boto3):
    def client(service):
        return boto3.client(service, region_name="us-east-1", aws_access_key_id="AKIDTEST", aws_secret_access_key="secret")

    ec2, cloud = client("ec2"), client("cloudformation")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]][:2]
    client("s3").create_bucket(Bucket="code")
    client("s3").put_object(Bucket="code", Key="bootstrap.zip", Body=b"program")
    given = {"VpcId": vpc, "SubnetIds": ",".join(subnets), "BucketName": "my-site", "BucketPrefix": "www/", "Image": "efs2s3:1", "AlarmEmail": "web@example.com",
             "Primary": "lambda", "CodeBucket": "code"}
    cloud.create_stack(StackName="efs2s3", TemplateBody=(root / "deploy/cloudformation/efs2s3.yaml").read_text(), Capabilities=["CAPABILITY_IAM"],
                       Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()])
    stack = cloud.describe_stacks(StackName="efs2s3")["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    wrong = [] if stack["StackStatus"] == "CREATE_COMPLETE" else [f"{stack['StackStatus']}: {stack.get('StackStatusReason')}"]

    def expect(what, have, want):
        wrong.extend([] if have == want else [f"{what}: {have} instead of {want}"])

    targets = client("efs").describe_mount_targets(FileSystemId=outputs["FileSystem"])["MountTargets"]
    expect("mount targets", sorted(target["SubnetId"] for target in targets), sorted(subnets))
    group = [one for one in ec2.describe_security_groups()["SecurityGroups"] if one["Description"].startswith("NFS")][0]
    rules = [(rule["FromPort"], [pair["GroupId"] for pair in rule["UserIdGroupPairs"]], rule["IpRanges"]) for rule in group["IpPermissions"]]
    expect("inbound rules", rules, [(2049, [group["GroupId"]], [])])
    expect("destination", outputs["Destination"], "s3://my-site/www/")
    task = client("ecs").describe_task_definition(taskDefinition=outputs["TaskDefinitionArn"])["taskDefinition"]
    container = task["containerDefinitions"][0]
    expect("command", container["command"], ["run"])
    expect("read-only", (container["readonlyRootFilesystem"], container["mountPoints"][0]["readOnly"]), (True, True))
    schedules = {rule.get("ScheduleExpression") for rule in client("events").list_rules()["Rules"]}
    expect("the rule", "rate(5 minutes)" in schedules, True)
    may_call = json.loads(client("lambda").get_policy(FunctionName="efs2s3")["Policy"])["Statement"]
    expect("callers of the function", sorted(one["Principal"]["Service"] for one in may_call), ["events.amazonaws.com"] * 2)
    return wrong


def submissions(root, count, state):
    """The options of each job that the script submits to AWS Batch."""
    with tempfile.TemporaryDirectory() as folder:
        calls_file = Path(folder) / "calls"
        stub = Path(folder) / "aws"
        stub.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" END >> {calls_file}; echo job-$(tr "\\0" "\\n" < {calls_file} | grep -c "^END$")\n')
        stub.chmod(0o755)
        wrong = run("bash", str(root / "deploy/scale/batch-run"), "queue", "definition", count, state, PATH=f"{folder}:{os.environ['PATH']}")
        if wrong:
            raise ValueError(wrong)
        calls = [call.split("\0") for call in calls_file.read_text().split("END\0")[:-1]]
    return [{name: call[number + 1] for number, name in enumerate(call) if name.startswith("--")} for call in calls]


def batch(root):
    """The script submits four jobs, and each waits for the job before it."""
    found = [(job["--job-name"], job.get("--depends-on"), job.get("--array-properties")) for job in submissions(root, "16", "s3://state/efs2s3")]
    wanted = [("efs2s3-cut", None, None), ("efs2s3-copy", "jobId=job-1", "size=16"), ("efs2s3-delete", "jobId=job-2", "size=16"),
              ("efs2s3-merge", "jobId=job-3", None)]
    return [] if found == wanted else [f"{found} instead of {wanted}"]


def engines(root, program, only=None):
    """The processes that each engine starts sync a tree."""
    import engines as simulations
    wrong = []
    for engine in ["step_functions", "kubernetes", "batch"]:
        if only in (None, engine):
            wrong += [f"{engine}: {one}" for one in getattr(simulations, engine)(root, program)]
    return wrong


# --- the table of parts ---

def table(root):
    """Every resource that deploy/README.md names exists in the Terraform module and in the template."""
    made = template(root / "deploy/cloudformation/efs2s3.yaml")["Resources"]
    code = "\n".join(path.read_text() for path in sorted((root / "deploy/terraform").glob("*.tf")))
    declared = {f"{kind}.{name}" for kind, name in re.findall(r'^resource "(\w+)" "(\w+)"', code, re.M)}
    wrong, rows = [], 0
    for line in (root / "deploy/README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 4 or not re.search(r"`aws_", cells[1]):
            continue
        rows += 1
        wrong += [f"{name} does not exist" for name in re.findall(r"`(aws_\w+\.\w+)`", cells[1]) if name not in declared]
        wrong += [f"{name} does not exist" for name in re.findall(r"`(\w+)`", cells[2]) if name not in made]
    return wrong if rows >= 20 else [*wrong, f"the table has {rows} rows"]
