"""Other releases beside the present one: copies that speak other versions, and a real one where it is built."""

import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pycolo

PACKAGE = Path(pycolo.__file__).parent
LAST_RELEASE = os.environ.get("COLO_LAST_RELEASE", "")
"""The interpreter of an environment that has the last release: see scripts/last-release.sh."""


class Release(NamedTuple):
    """How its processes are started."""

    python: str = sys.executable
    path: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | ({"PYTHONPATH": self.path} if self.path else {})


PRESENT = Release()


def copied(place: Path, lowest: int, highest: int) -> Release:
    """The present code, but for the versions of the link's protocol that it speaks."""
    package = place / f"release-{lowest}-{highest}" / "pycolo"
    changed = package / "link" / "hello.py"
    changed.parent.mkdir(parents=True)
    for there, here in ((PACKAGE, package), (PACKAGE / "link", changed.parent)):
        for entry in there.iterdir():
            if not (here / entry.name).exists() and entry.name not in ("hello.py", "__pycache__"):
                (here / entry.name).symlink_to(entry)
    text = (PACKAGE / "link" / "hello.py").read_text()
    for name, value in (("VERSION", highest), ("LOWEST", lowest)):
        text, found = re.subn(rf"^PROTOCOL_{name}: Final = \d+$", f"PROTOCOL_{name}: Final = {value}", text, flags=re.M)
        assert found == 1, name
    changed.write_text(text)
    return Release(path=str(package.parent))
