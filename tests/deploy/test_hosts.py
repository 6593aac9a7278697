"""Compares the hosts in tests/it/hosts.rs with those that the AWS CLI asks for: with botocore, its library."""
import functools
import os
import re
from pathlib import Path

import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config

TEXT = (Path(__file__).resolve().parents[2] / "tests/it/hosts.rs").read_text()
SETTINGS = {name: (fips == "true", dual == "true")
            for name, fips, dual in re.findall(r"const (\w+): \[bool; 2\] = \[(\w+), (\w+)\];", TEXT)}
CONSTANTS = dict(re.findall(r'const (\w+): &str =\s*"(.*)";', TEXT))
# ((bucket or partition, region, settings[, addressing]), host)
ROWS = re.findall(r'\(\s*\((".*?"|\w+), "(.*?)", (\w+)(?:, "(\w+)")?\),\s*"(.*?)",?\s*\)', TEXT)


class Asked(Exception):
    """Stops a request before it is sent."""


@functools.cache
def session():
    return botocore.session.Session()


def host(service, operation, region, settings, addressing, **parameters):
    """The host that botocore sends the request to."""
    fips, dual_stack = SETTINGS[settings]
    # The AWS CLI 2 does not know the global endpoint of us-east-1, which botocore still has as its default.
    s3 = {"addressing_style": addressing, "us_east_1_regional_endpoint": "regional"}
    config = Config(region_name=region or None, use_fips_endpoint=fips, use_dualstack_endpoint=dual_stack, s3=s3,
                    signature_version=UNSIGNED)
    client = session().create_client(service, config=config)

    def stop(request, **_):
        raise Asked(request.url)

    client.meta.events.register("before-send", stop)
    with pytest.raises(Asked) as asked:
        getattr(client, operation)(**parameters)
    return str(asked.value).split("/")[2]


@pytest.fixture(autouse=True)
def without_settings(monkeypatch, tmp_path):
    """No setting of this machine changes a host."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


def test_rows_are_read():
    hosts = re.findall(r'"[\w.-]+\.(?:amazonaws|api\.aws|api\.amazonwebservices)[\w.]*"', TEXT)
    assert len(ROWS) == len(hosts) > 40


@pytest.mark.parametrize("place, region, settings, addressing, expected", ROWS)
def test_host_is_that_of_the_aws_cli(place, region, settings, addressing, expected):
    place = CONSTANTS.get(place, place.strip('"'))
    if addressing:
        found = host("s3", "list_objects_v2", region, settings, addressing, Bucket=place)
    else:
        task = f"arn:{place}:datasync:{region}:123456789012:task/task-0123456789abcdef0"
        found = host("datasync", "describe_task", region, settings, "auto", TaskArn=task)
    assert found == expected
