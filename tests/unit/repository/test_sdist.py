"""The source distributions are the source tree: nothing is missing, nothing got in by accident."""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
MADE_BY_SETUPTOOLS = re.compile(r"PKG-INFO|setup\.cfg|src/\w+\.egg-info(/.*)?")
SETUP = "from setuptools import setup; setup()"

FOLDERS = {"pycolo": "", "pycolo_lab": "lab/"}
"""Where each is made of."""


@pytest.fixture(scope="module", params=FOLDERS)
def made(request, tmp_path_factory):
    """Paths in a source distribution that is made here, as they are in the repository, and its folder there."""
    name, place = request.param, FOLDERS[request.param]
    folder = tmp_path_factory.mktemp("sdist")
    program = ["setup.py"] if (ROOT / place / "setup.py").exists() else ["-c", SETUP]
    # egg_info writes elsewhere than beside the package, where an editable installation has its own.
    command = [sys.executable, *program, "-q", "egg_info", "--egg-base", folder, "sdist", "--dist-dir", folder]
    subprocess.run(command, cwd=ROOT / place, check=True, capture_output=True, timeout=60)
    (archive,) = folder.glob("*.tar.gz")
    assert archive.name.startswith(f"{name}-")
    with tarfile.open(archive) as tar:
        found = {member.name.partition("/")[2] for member in tar if member.isfile()}
    found = {path for path in found if not MADE_BY_SETUPTOOLS.fullmatch(path) and "egg-info/" not in path}
    return {place + path for path in found}, place


def sources(*options: str) -> set[str]:
    command = [ROOT / "scripts" / "sources.sh", *options]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines())


def test_every_source_file_is_in_it(made):
    names, place = made
    assert sorted(path for path in sources("--tracked") - names if path.startswith(place)) == [], "MANIFEST.in"


def test_nothing_else_is_in_it(made):
    """A new file may be, before git knows it."""
    names, _ = made
    assert sorted(names - sources()) == []


def test_what_is_listed_is_what_people_need():
    listed = sources()
    needed = {"LICENSE", "CHANGELOG.md", "Makefile", "setup.py", "tests/conftest.py", "docs/configuration.md"}
    needed |= {"lab/pyproject.toml", "lab/src/pycolo_lab/qemu/guest/service.c", "src/pycolo/vm/preload.c"}
    assert needed | {"contrib/systemd/colo@.service", "debian/control", "scripts/setup.sh"} <= listed
    assert not any(name.endswith((".so", ".pyc")) or name.startswith((".venv/", "build/", "dist/")) for name in listed)
