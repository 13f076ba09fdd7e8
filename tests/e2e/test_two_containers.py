"""docs/two-containers-nginx.md: a reader copies what is run here, word for word."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.pagehosts import HOSTS, blocks

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "two-containers-nginx.md"
WORLD = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
RUNNER = ROOT / "tests" / "support" / "pagehosts.py"

NUMBER = r"\d+(\.\d+)?"
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"^    (?!colo )(\S.*)$", re.MULTILINE)
"""Output, outside of fences; commands that stand in the text begin with `colo`."""


def shown(page: str) -> list[str]:
    return SHOWN.findall(FENCED.sub("", page))


@pytest.mark.namespaces
@pytest.mark.tun
@pytest.mark.nginx
@pytest.mark.timeout(300)
def test_every_command_of_the_page_does_what_the_page_says(tmp_path: Path) -> None:
    done = subprocess.run(
        [*WORLD, sys.executable, str(RUNNER), str(PAGE), str(tmp_path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    lines = [re.sub(NUMBER, "N", line) for line in done.stdout.splitlines()]
    for line in shown(PAGE.read_text(encoding="utf-8")):
        assert re.sub(NUMBER, "N", line) in lines, f"the page shows {line!r}, and nothing said so:\n{done.stdout}"


def test_no_block_of_the_page_is_left_out() -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = blocks(text)
    assert {name for block in found for name in block.where} == set(HOSTS)
    assert len(found) == text.count("```bash")
    assert len(shown(text)) >= 5


def test_a_command_that_fails_fails_the_page() -> None:
    page = "<!-- on: client -->\n```bash\nfalse\n```\n"
    assert [block.text for block in blocks(page)] == ["false\n"]
