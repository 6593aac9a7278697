#!/usr/bin/env python3
"""Runs efs2s3 and its peers on the same trees, against moto's S3 server, and prints the table of docs/peers.md.

    python3 -m venv .venv && .venv/bin/pip install -r tests/peers/requirements.txt
    cargo build --release
    sudo .venv/bin/python tests/peers/peers.py      # root, to run the tools as a user who is subject to file modes
"""
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3

NOBODY = 65534
BIN = Path(sys.executable).parent
PROGRAM = Path(__file__).resolve().parents[2] / "target/release/efs2s3"


class Server:
    def __init__(self, folder):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{port}", folder / "moto.log"
        self.process = subprocess.Popen([BIN / "moto_server", "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=self.log.open("w"))
        self.client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s")
        for _ in range(100):
            try:
                self.client.list_buckets()
                break
            except Exception:
                time.sleep(0.2)

    def requests(self):
        """The log lines of the requests so far."""
        return [line for line in self.log.read_text().splitlines() if '"' in line and "HTTP/1" in line]

    def objects(self, bucket):
        found = {}
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for o in page.get("Contents", []):
                found[o["Key"]] = self.client.get_object(Bucket=bucket, Key=o["Key"])["Body"].read()
        return found


class Case:
    """A tree, a bucket, and one tool to sync them."""
    number = 0

    def __init__(self, server, tool, folder):
        Case.number += 1
        self.server, self.tool, self.bucket = server, tool, f"case-{Case.number:03}"
        self.tree = folder / self.bucket
        self.tree.mkdir()
        os.chmod(self.tree, 0o755)
        server.client.create_bucket(Bucket=self.bucket)

    def write(self, name, content="x", age=None):
        path = os.path.join(os.fsencode(self.tree), name if isinstance(name, bytes) else name.encode())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(content)
        if age:
            os.utime(path, (time.time() - age,) * 2)

    def sync(self, uid=None):
        s, url = str(self.tree), self.server.url
        command = {
            "efs2s3": [PROGRAM, "sync", s, f"s3://{self.bucket}", "--mode", "plain", "--delete", "--max-delete", "100%", "--endpoint-url", url],
            "aws s3 sync": [BIN / "aws", "--endpoint-url", url, "s3", "sync", s, f"s3://{self.bucket}", "--delete"],
            "rclone sync": [BIN / "rclone", "sync", s, f"m:{self.bucket}", "-L", "--retries", "1"],
            "s5cmd sync": [BIN / "s5cmd", "--endpoint-url", url, "sync", "--delete", s + "/", f"s3://{self.bucket}/"],
        }[self.tool]
        env = {**os.environ, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "HOME": "/tmp",
               "RCLONE_CONFIG_M_TYPE": "s3", "RCLONE_CONFIG_M_PROVIDER": "Other", "RCLONE_CONFIG_M_ENDPOINT": url, "RCLONE_CONFIG_M_ENV_AUTH": "true", "RCLONE_CONFIG": "/dev/null"}
        if uid:
            command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *command]
        return subprocess.run(list(map(str, command)), env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=300).returncode

    def objects(self):
        return self.server.objects(self.bucket)

    def settle(self):
        time.sleep(4)


def ten(case):
    for n in range(10):
        case.write(f"d{n % 2}/f{n}", str(n))
    case.sync()
    case.settle()


def nothing_to_do(case):
    for n in range(2000):
        case.write(f"d{n % 20}/f{n}", str(n))
    case.sync()
    case.settle()
    before = len(case.server.requests())
    case.sync()
    return f"{len(case.server.requests()) - before} requests"


def restored(case):
    case.write("a", "first version")
    case.sync()
    case.settle()
    case.write("a", "other version", age=86400)
    code = case.sync()
    return "uploaded" if case.objects()["a"] == b"other version" else f"**missed**, exit {code}"


def touched(case):
    ten(case)
    before = len([x for x in case.server.requests() if '"PUT' in x])
    os.utime(case.tree / "d0/f0")
    case.sync()
    return "uploaded again" if len([x for x in case.server.requests() if '"PUT' in x]) > before else "kept"


def unreadable_directory(case):
    ten(case)
    os.chmod(case.tree / "d1", 0)
    case.write("new", "n")
    code = case.sync(uid=NOBODY)
    os.chmod(case.tree / "d1", 0o755)
    objects = case.objects()
    kept = "its objects kept" if len([k for k in objects if k.startswith("d1/")]) == 5 else "**its objects deleted**"
    return f"{kept}, the rest {'synced' if 'new' in objects else 'not synced'}, exit {code}"


def empty_source(case):
    ten(case)
    shutil.rmtree(case.tree)
    case.tree.mkdir()
    code = case.sync()
    return ("all kept" if len(case.objects()) == 10 else "**all deleted**") + f", exit {code}"


def broken_link(case):
    ten(case)
    os.symlink("nowhere", case.tree / "broken")
    case.write("zz", "new")
    code = case.sync()
    objects = case.objects()
    return f"{'others kept' if len([k for k in objects if k.startswith('d')]) == 10 else '**others deleted**'}, {'synced' if 'zz' in objects else 'not synced'}, exit {code}"


def not_utf8(case):
    ten(case)
    case.write(b"d0/caf\xe9", "latin 1")
    case.write("zz", "new")
    code = case.sync()
    objects = case.objects()
    return f"{'others kept' if len([k for k in objects if k.startswith('d') and 'caf' not in k]) == 10 else '**others deleted**'}, {'synced' if 'zz' in objects else 'not synced'}, exit {code}"


CASES = [
    (nothing_to_do, "nothing to do, 2,000 files"),
    (restored, "same size, other content, old date (`cp -p`, `tar x`)"),
    (touched, "touched, equal content"),
    (unreadable_directory, "a directory that cannot be read, with deletes"),
    (empty_source, "an empty source (nothing mounted), with deletes"),
    (broken_link, "a broken link, with deletes"),
    (not_utf8, "a name that is not UTF-8, with deletes"),
]
TOOLS = ["efs2s3", "aws s3 sync", "rclone sync", "s5cmd sync"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        os.chmod(folder, 0o755)
        server = Server(folder)
        try:
            print("| | " + " | ".join(f"`{tool}`" for tool in TOOLS) + " |")
            print("|---|" + "---|" * len(TOOLS))
            for run, title in CASES:
                print(f"| {title} | " + " | ".join(run(Case(server, tool, folder)) for tool in TOOLS) + " |", flush=True)
        finally:
            server.process.terminate()


main()
