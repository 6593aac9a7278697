"""Tests `tests/tools` on a machine with stubs of the tools."""
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HANG = "exec /bin/sleep 60"
EVERYTHING = {"cargo-nextest", "moto and SeaweedFS", "Ceph's RADOS Gateway",
              "pytest and linters", "asl-validator", "buildah", "Terraform", "Terraform's providers"}


@pytest.fixture
def machine(tmp_path):
    """Runs `tests/tools` with these programs only, and a package index that never responds."""
    (tmp_path / "tests/real_s3").mkdir(parents=True)
    (tmp_path / "tests/deploy").mkdir()
    (tmp_path / "programs").mkdir()
    script = (ROOT / "tests/tools").read_text()
    assert "REQUEST, PROBE = 5, 20" in script
    (tmp_path / "tests/tools").write_text(script.replace("REQUEST, PROBE = 5, 20", "REQUEST, PROBE = 1, 5"))
    module = "deploy/terraform"
    shutil.copytree(ROOT / module, tmp_path / module, ignore=shutil.ignore_patterns(".terraform*"))
    for folder, environment in [("real_s3", ".venv"), ("deploy", ".venv-deploy")]:
        (tmp_path / "tests" / folder / "requirements.txt").write_text("another==1\n")
        (tmp_path / environment).symlink_to(sys.prefix)

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)

        def tools(*words, ci="", **programs):
            for name, text in programs.items():
                (tmp_path / "programs" / name).write_text(f"#!/bin/sh\n{text}\n")
                (tmp_path / "programs" / name).chmod(0o755)
            index = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            environment = {"PATH": str(tmp_path / "programs"), "CI": ci, "PIP_INDEX_URL": index}
            return subprocess.run([sys.executable, tmp_path / "tests/tools", *words], env=environment,
                                  capture_output=True, text=True, timeout=60)
        yield tools


def skipped(done):
    return [line.removeprefix("skipped: ").split(": ")[0] for line in done.stderr.splitlines()]


def test_tools_whose_registry_does_not_respond_are_named_once(machine):
    terraform = f'[ "$1" = version ] || {HANG}'
    assert machine("find", cargo=HANG, npm=HANG, terraform=terraform).stderr == ""
    # They are not tried again.
    assert machine("install", cargo="exit 0", npm="exit 0", terraform="exit 0").returncode == 0
    done = machine("report")
    assert (sorted(skipped(done)), done.returncode) == (sorted(EVERYTHING - {"Terraform"}), 0)


def test_tools_that_do_not_exist_are_an_error_in_ci(machine):
    done = machine("find", ci="true")
    assert done.returncode == 1
    assert {line.removeprefix("missing: ").split(": ")[0] for line in done.stderr.splitlines()} == EVERYTHING


def test_a_tool_that_cannot_be_installed_is_named_with_the_cause(machine):
    terraform = 'case "$*" in version) ;; *deploy*) echo "Error: no such host"; exit 1;; esac'
    machine("find", "deploy", terraform=terraform)
    machine("install", "deploy")
    done = machine("report", "deploy")
    assert "skipped: Terraform's providers: no such host. To run their tests, let `terraform init`" in done.stderr


def test_a_tool_that_is_found_later_is_no_longer_missing(machine):
    machine("find", "nextest")
    assert skipped(machine("report", "nextest")) == ["cargo-nextest"]
    machine("find", "nextest", cargo="exit 0")
    assert skipped(machine("report", "nextest")) == []
