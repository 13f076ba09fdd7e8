"""The source distribution is the source tree: nothing is missing, nothing got in by accident."""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MADE_BY_SETUPTOOLS = re.compile(r"PKG-INFO|setup\.cfg|src/pycolo\.egg-info(/.*)?")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Paths in a source distribution that is made here."""
    folder = tmp_path_factory.mktemp("sdist")
    # egg_info writes elsewhere than beside the package, where an editable installation has its own.
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder, "sdist", "--dist-dir", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        found = {member.name.partition("/")[2] for member in tar if member.isfile()}
    return {name for name in found if not MADE_BY_SETUPTOOLS.fullmatch(name) and "egg-info/" not in name}


def sources(*options: str) -> set[str]:
    command = [ROOT / "scripts" / "sources.sh", *options]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines())


def test_every_source_file_is_in_it(names):
    assert sorted(sources("--tracked") - names) == [], "MANIFEST.in"


def test_nothing_else_is_in_it(names):
    """A new file may be, before git knows it."""
    assert sorted(names - sources()) == []


def test_what_is_listed_is_what_people_need():
    listed = sources()
    needed = {"LICENSE", "CHANGELOG.md", "Makefile", "setup.py", "tests/conftest.py", "docs/configuration.md"}
    assert needed | {"contrib/systemd/colo@.service", "debian/control", "scripts/setup.sh"} <= listed
    assert not any(name.endswith((".so", ".pyc")) or name.startswith((".venv/", "build/", "dist/")) for name in listed)
