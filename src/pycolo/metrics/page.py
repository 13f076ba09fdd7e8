"""The page for people: one file, which asks its own server for what it shows, and no other host for anything.

What a guest writes may stand in it, so a browser is told to run this script and no other: a header has its hash. The
script puts all that it is given into the page as text, never as markup.
"""

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from pycolo.metrics.scraping import Reply

REFUSAL: Final = (
    b"the page shows payload of the guest, so it is served on a loopback address only, unless metrics.page = true\n"
)

HEADERS: Final = (
    "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n"
)
"""Of everything for people."""


@cache
def _file() -> tuple[bytes, str]:
    """The page, and the headers that belong to it."""
    text = (files(__package__) / "page.html").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {_hash(text, 'script')}; style-src {_hash(text, 'style')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text.encode(), f"Content-Security-Policy: {policy}\r\n{HEADERS}"


def _hash(text: str, tag: str) -> str:
    (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
    return f"'sha256-{b64encode(sha256(inside.encode()).digest()).decode()}'"


async def page() -> Reply:
    """The page itself."""
    body, headers = _file()
    return Reply(body, "text/html; charset=utf-8", headers=headers)
