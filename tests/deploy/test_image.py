"""Builds the image from docker/Dockerfile around an existing program, and runs it as the image's user."""
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from fnmatch import fnmatch
from pathlib import Path

import boto3
import pytest
from needs import needs

needs("buildah")
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ["PROGRAM"])


class Images:
    """buildah with its own storage. It downloads nothing."""

    def __init__(self, folder):
        self.words = ["buildah", "--storage-driver", "vfs", "--root", str(folder / "root"), "--runroot", str(folder / "run")]

    def __call__(self, *words, **given):
        return subprocess.run([*self.words, *words], capture_output=True, text=True, **given)

    def build(self, built, target):
        done = self("bud", "--isolation", "chroot", "--build-context", f"build={built}", "--target", target,
                    "-f", str(ROOT / "docker/Dockerfile"), "-t", target, str(ROOT / "docker"))
        assert done.returncode == 0, done.stderr
        container = self("from", target).stdout.strip()
        return container, Path(self("mount", container).stdout.strip())


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    yield Images(folder)
    Images(folder)("umount", "--all")
    Images(folder)("rm", "--all")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The result of the Dockerfile's first stage, which needs a registry, so tests do not run it."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "image/etc/ssl/certs").mkdir(parents=True)
    (folder / "image/tmp").mkdir()
    (folder / "image/tmp").chmod(0o1777)
    shutil.copy(PROGRAM, folder / "image/efs2s3")
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", folder / "image/etc/ssl/certs")
    return folder


@pytest.fixture(scope="module")
def image(images, built):
    return images.build(built, "image")


@pytest.fixture(scope="module")
def s3():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(100):
        try:
            urllib.request.urlopen(urllib.request.Request(f"{url}/site", method="PUT"), timeout=2)
            break
        except OSError:
            time.sleep(0.2)
    yield url
    server.terminate()


def run(images, container, tree, s3, *words, **environment):
    given = {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": s3,
             "AWS_EC2_METADATA_DISABLED": "true", **environment}
    config = json.loads(images("inspect", container).stdout)["OCIv1"]["config"]
    return images("run", "--isolation", "chroot", *[f"--env={name}={value}" for name, value in given.items()],
                  "-v", f"{tree}:/mnt/efs:ro", container, "--", *config["Entrypoint"], *words)


def test_image_holds_only_the_program_and_certificates(image):
    _, files = image
    assert {str(path.relative_to(files)) for path in files.rglob("*") if not path.is_dir()} == {"efs2s3", "etc/ssl/certs/ca-certificates.crt"}
    assert (files / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_image_has_a_user_and_labels(images, image):
    config = json.loads(images("inspect", image[0]).stdout)["OCIv1"]["config"]
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["/efs2s3"]
    assert "EFS2S3_LOG_FORMAT=json" in config["Env"]
    assert {"org.opencontainers.image.title", "org.opencontainers.image.licenses"} <= config["Labels"].keys()


def test_program_in_the_image_has_no_demo(images, image, tmp_path, s3):
    assert run(images, image[0], tmp_path, s3, "demo").returncode == 2


def test_image_syncs_a_mounted_tree_as_its_user(images, image, tmp_path, s3):
    tree = tmp_path / "tree"
    (tree / "img").mkdir(parents=True)
    (tree / "index.html").write_text("page")
    (tree / "img/a.png").write_bytes(b"x" * 20_000_000)
    old = time.time() - 3600
    for path in tree.rglob("*"):
        os.utime(path, (old, old))
    done = run(images, image[0], tree, s3, "sync", "/mnt/efs", "s3://site/www", "--delete", "--report", "-")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["counts"]["uploaded"] == 3 and report["bytes"]["uploaded"] == 20_000_004
    client = boto3.client("s3", endpoint_url=s3, region_name="us-east-1", aws_access_key_id="AKIDTEST", aws_secret_access_key="secret")
    listed = client.list_objects_v2(Bucket="site", Prefix="www/")["Contents"]
    assert {one["Key"]: one["Size"] for one in listed} == {"www/img/": 0, "www/img/a.png": 20_000_000, "www/index.html": 4}
    assert client.get_object(Bucket="site", Key="www/index.html")["Body"].read() == b"page"
    again = json.loads(run(images, image[0], tree, s3, "sync", "/mnt/efs", "s3://site/www", "--report", "-").stdout)
    assert again["counts"]["unchanged"] + again["counts"]["uploaded"] == 3 and again["exit_code"] == 0

    # The alarms of deploy/ read the last line of the log.
    line = json.loads(done.stderr.splitlines()[-1])
    for file, quote in [("terraform/alarms.tf", '\\"'), ("cloudformation/efs2s3.yaml", '"')]:
        assert f"{{ $.message = {quote}* exit 0{quote} }}" in (ROOT / "deploy" / file).read_text()
    assert fnmatch(line["message"], "* exit 0")


def test_unreadable_files_are_named_and_root_reads_them(images, image, tmp_path, s3):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "secret").write_text("x")
    (tree / "secret").chmod(0o600)
    done = run(images, image[0], tree, s3, "sync", "/mnt/efs", "s3://site/private", "--mode", "plain", "--report", "-")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["failures"][0]["kind"] == "permission_denied"
    images("config", "--user", "0:0", image[0])
    try:
        done = run(images, image[0], tree, s3, "sync", "/mnt/efs", "s3://site/private", "--mode", "plain")
        assert done.returncode == 0, done.stderr
    finally:
        images("config", "--user", "65532:65532", image[0])


def test_function_has_the_same_program(images, built):
    _, files = images.build(built, "lambda")
    assert [path.name for path in files.iterdir()] == ["bootstrap"]
    assert (files / "bootstrap").read_bytes() == PROGRAM.read_bytes()
