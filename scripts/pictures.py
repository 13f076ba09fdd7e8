"""Makes a PNG of each SVG picture in docs/, for package indexes, which do not show SVG: python scripts/pictures.py.

Needs Chromium, in a terminal of a developer only: the PNG files are kept in the repository. Each holds the checksum of
its SVG, so that a test can tell one that is out of date.
"""

import hashlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
SCALE = 2
"""Pixels per unit of the picture, for screens with many of them."""

HEADER_END = 33
"""Behind the signature and the chunk IHDR."""


def checksum_chunk(svg: bytes) -> bytes:
    """A chunk tEXt of PNG with the checksum of the picture that it was made of."""
    body = b"tEXtSource\0sha256:" + hashlib.sha256(svg).hexdigest().encode()
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def render(picture: Path, chromium: str) -> bytes:
    """The picture as a browser shows it."""
    svg = picture.read_text(encoding="utf-8")
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found is not None, f"{picture} has no viewBox that begins at 0 0"
    width, height = (round(float(number)) for number in found.groups())
    with tempfile.TemporaryDirectory() as directory:
        page, shot = Path(directory, "page.html"), Path(directory, "shot.png")
        style = f"margin:0;background:#fff}}svg{{display:block;width:{width}px;height:{height}px"
        page.write_text(f"<!doctype html><meta charset=utf-8><style>body{{{style}}}</style>{svg}", encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--force-device-scale-factor={SCALE}"]
        command = [chromium, *options, f"--window-size={width},{height}", f"--screenshot={shot}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return shot.read_bytes()


def main() -> None:
    """Exit code 1 without a browser."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("error: chromium is missing (Debian: apt-get install chromium)")
    for picture in sorted(DOCS.rglob("*.svg")):
        png = render(picture, chromium)
        marked = png[:HEADER_END] + checksum_chunk(picture.read_bytes()) + png[HEADER_END:]
        picture.with_suffix(".png").write_bytes(marked)
        print(f"{picture.with_suffix('.png').relative_to(DOCS.parent)}: {len(marked)} bytes")


if __name__ == "__main__":
    main()
