"""Simulates the engines of deploy/scale: starts the steps of each definition in order, as processes of the program on a test server.

Each simulation takes the root of a checkout and the program. It returns errors: a step that failed, or a bucket that differs from
the tree at the end.
"""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import boto3
import checks
import yaml

FILES = {f"d{number % 4}/f{number:02}": f"content {number}" for number in range(40)}


class Stage:
    """A tree, a server with the buckets of the definitions, orphans, and the program."""

    def __init__(self, program, folder):
        self.program, self.tree = program, Path(folder) / "tree"
        old = time.time() - 3600
        for name, content in FILES.items():
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            os.utime(path, (old, old))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.server = subprocess.Popen([Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{port}"
        for _ in range(100):
            try:
                urllib.request.urlopen(self.url, timeout=2)
                break
            except OSError:
                time.sleep(0.2)
        self.s3 = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="AKIDTEST", aws_secret_access_key="secret")
        for bucket in ["my-site", "my-state"]:
            self.s3.create_bucket(Bucket=bucket)
        for name in ["d0/gone", "d9/gone"]:
            self.s3.put_object(Bucket="my-site", Key=f"www/{name}", Body=b"gone")

    def run(self, command, environment, index=None):
        """Runs the program as a container with this command and environment. Returns its error, if it fails."""
        given = {**environment, "EFS2S3_SOURCE": str(self.tree), "EFS2S3_MODE": "plain", "AWS_ENDPOINT_URL": self.url, "AWS_REGION": "us-east-1",
                 "AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true", **(index or {})}
        done = subprocess.run([self.program, *command], env=given, capture_output=True, text=True)
        return [] if done.returncode == 0 else [f"{' '.join(command)} exited with {done.returncode}: {done.stderr[-500:]}"]

    def differences(self):
        have = {}
        for one in self.s3.list_objects_v2(Bucket="my-site").get("Contents", []):
            have[one["Key"].removeprefix("www/")] = self.s3.get_object(Bucket="my-site", Key=one["Key"])["Body"].read().decode()
        return [f"the bucket holds {len(have)} objects: {sorted(have.keys() ^ FILES.keys())}"] if have != FILES else []


def simulation(steps):
    def on_a_stage(root, program):
        with tempfile.TemporaryDirectory() as folder:
            stage = Stage(program, folder)
            try:
                return steps(root, stage) or stage.differences()
            finally:
                stage.server.terminate()
                stage.server.wait()
    return on_a_stage


@simulation
def step_functions(root, stage):
    made = checks.template(root / "deploy/scale/step-functions.yaml")["Resources"]["StateMachine"]["Properties"]
    settings = {"state_bucket": "my-state", "state_prefix": "efs2s3", "ranges": "6", "at_once": "2", "cluster": "c", "family": "f"}
    definition = json.loads(re.sub(r"\$\{([a-z_]+)\}", lambda found: settings[found[1]], json.dumps(made["Definition"])))
    # The environment in the task definition of the deployment.
    environment = {"EFS2S3_DESTINATION": "s3://my-site/www", "EFS2S3_STATE": "s3://my-state/efs2s3", "EFS2S3_DELETE": "true", "EFS2S3_LOG_FORMAT": "json"}

    def task(state, item):
        container = state["Parameters"]["Overrides"]["ContainerOverrides"][0]
        given = {one["Name"]: one.get("Value", str(item.get("index"))) for one in container["Environment"]}
        return stage.run(container["Command"], {**environment, **given})

    name = definition["StartAt"]
    while name:
        state = definition["States"][name]
        wrong = []
        if state["Type"] == "Task":
            wrong = task(state, {})
        elif state["Type"] == "Map":
            place = state["ItemReader"]["Parameters"]
            inner = state["ItemProcessor"]
            for item in json.loads(stage.s3.get_object(**place)["Body"].read()):
                wrong = wrong or task(inner["States"][inner["StartAt"]], item)
        if wrong:
            return wrong
        name = state.get("Next")
    return []


@simulation
def kubernetes(root, stage):
    common = {}
    for manifest in yaml.safe_load_all((root / "deploy/scale/kubernetes/storage.yaml").read_text()):
        if manifest["kind"] == "ConfigMap":
            common = manifest["data"]
    for path in sorted((root / "deploy/scale/kubernetes").glob("[0-9]-*.yaml")):
        spec = yaml.safe_load(path.read_text())["spec"]
        container = spec["template"]["spec"]["containers"][0]
        environment = {**common, **{one["name"]: one["value"] for one in container["env"]}}
        indexes = range(spec["completions"]) if spec.get("completionMode") == "Indexed" else [None]
        for index in indexes:
            wrong = stage.run(container["args"], environment, {} if index is None else {"JOB_COMPLETION_INDEX": str(index)})
            if wrong:
                return [f"{path.name}: {one}" for one in wrong]
    return []


@simulation
def batch(root, stage):
    job = checks.template(root / "deploy/scale/batch.yaml")["Resources"]["Job"]["Properties"]["ContainerProperties"]
    settings = {"Ref Destination": "s3://my-site/www", "Ref State": "s3://my-state/efs2s3", "Sub ${State}/ranges.json": "s3://my-state/efs2s3/ranges.json"}
    common = {one["Name"]: settings.get(one["Value"], one["Value"]) for one in job["Environment"]}
    for submitted in checks.submissions(root, "5", "s3://my-state/efs2s3"):
        override = json.loads(submitted["--container-overrides"])
        environment = {**common, **{one["name"]: one["value"] for one in override.get("environment", [])}}
        size = submitted.get("--array-properties", "").removeprefix("size=")
        for index in range(int(size)) if size else [None]:
            wrong = stage.run(override.get("command", job["Command"]), environment, {} if index is None else {"AWS_BATCH_JOB_ARRAY_INDEX": str(index)})
            if wrong:
                return [f"{submitted['--job-name']}: {one}" for one in wrong]
    return []
