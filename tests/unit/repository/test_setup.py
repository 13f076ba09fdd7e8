"""setup.py: the description that package indexes show, made of README.md."""

import re
import runpy
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCE = "https://forge.example/pycolo"


@pytest.fixture(scope="module")
def setup():
    return runpy.run_path(str(ROOT / "setup.py"), run_name="setup")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[a](docs/a.md)", f"[a]({SOURCE}/blob/v1/docs/a.md)"),
        ("[a](docs/a.md#part)", f"[a]({SOURCE}/blob/v1/docs/a.md#part)"),
        ("[below](#part)", f"[below]({SOURCE}/blob/v1/README.md#part)"),
        ("![both](docs/a.svg)", f"![both]({SOURCE}/raw/v1/docs/a.png)"),
        ("![both](docs/a.png)", f"![both]({SOURCE}/raw/v1/docs/a.png)"),
        ("[a](https://b.example/c)", "[a](https://b.example/c)"),
        ("[![shot](a.svg)](b.md)", f"[![shot]({SOURCE}/raw/v1/a.png)]({SOURCE}/blob/v1/b.md)"),
        ('<img src="docs/a.svg" alt="x">', f'<img src="{SOURCE}/raw/v1/docs/a.png" alt="x">'),
        ('<a href="docs/a.md">', f'<a href="{SOURCE}/blob/v1/docs/a.md">'),
    ],
)
def test_a_relative_link_becomes_one_that_holds_everywhere(setup, written, shown):
    assert setup["description"](f"before {written} behind", SOURCE, "1") == f"before {shown} behind"


def test_of_the_readme_no_relative_link_is_left(setup, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = setup["metadata"]()["long_description"]
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href|srcset)=[\"']?([^\"'\s>]+)", text)
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []


def test_every_picture_lies_there_as_a_png_that_is_not_out_of_date():
    """`python scripts/pictures.py` makes them, and writes the checksum of the SVG into each."""
    for picture in (ROOT / "docs").rglob("*.svg"):
        png = picture.with_suffix(".png").read_bytes()
        assert b"sha256:" + sha256(picture.read_bytes()).hexdigest().encode() in png, picture


def test_the_project_has_one_address():
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert set(urls) == {"Homepage", "Documentation", "Source", "Issues", "Changelog"}
    assert [url for url in urls.values() if not url.startswith(urls["Source"])] == []
