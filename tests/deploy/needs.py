"""Skips tests that need a tool which `tests/tools` found missing. If CI=true, no test is skipped."""
import os
from pathlib import Path

import pytest

LIST = Path(__file__).resolve().parents[2] / ".tools/missing"
LINES = LIST.read_text().splitlines() if LIST.exists() and os.environ.get("CI") != "true" else []
MISSING = {line.split("\t")[1] for line in LINES}


def needs(tool):
    if tool in MISSING:
        pytest.skip(f"{tool}: missing", allow_module_level=True)
