"""requirements.lock names one tested version, with hashes, of everything that the ranges ask for."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = {
    name: Version(version) for name, version in re.findall(r"^([a-z0-9.-]+)(?:\[.*\])?==([^\s;]+)", LOCK, re.M)
}


@pytest.mark.parametrize(
    "file", ["requirements.txt", "requirements-dev.txt", "requirements-docs.txt", "requirements-pretrained.txt"]
)
def test_every_range_contains_its_locked_version(file: str) -> None:
    lines = [line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    for line in lines:
        if line and not line.startswith("-r"):
            requirement = Requirement(line)
            version = LOCKED[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"make lock: {line} is locked at {version}"


def test_every_locked_package_has_a_hash_and_comes_from_the_installer_s_own_index() -> None:
    for package in re.split(r"\n(?=[a-z0-9])", LOCK)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", package), package.splitlines()[0]
    assert "index-url" not in LOCK
    assert "find-links" not in LOCK
