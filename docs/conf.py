"""The documentation as a site, by Sphinx: `make docs`. The pages are Markdown that can be read where they lie, too.

Why it is built like this: docs/adr/0029-documentation-site.md.
"""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util import logging

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent / "src")]

import made  # noqa: E402 - needs the path above

from pycolo import __version__  # noqa: E402

project = "pycolo"
release = __version__
extensions = ["myst_parser"]
exclude_patterns = ["_static", "_templates"]
root_doc = "index"

# Every link is checked, to a page or to a heading; with `--fail-on-warning` a broken one ends the build.
nitpicky = True
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
smartquotes = False  # two dashes are an option, not a dash
highlight_language = "none"
pygments_style = "default"
pygments_dark_style = "github-dark"

html_theme = "furo"
html_title = "pycolo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"footer_icons": []}

_DECISIONS = "adr/0001-record-decisions"
_DECISION = re.compile(r"^\| \[\d+\]\(([\w.-]+)\.md\)", flags=re.MULTILINE)
_PART = re.compile(r"^## (.+)$", flags=re.MULTILINE)
_ENTRY = re.compile(r"^\* \[([^\]]+)\]\(([\w/.-]+)\.md\)", flags=re.MULTILINE)


def toctree(names: list[str], caption: str = "") -> str:
    """The directive for pages that belong below this one."""
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["", "```{toctree}", *options, "", *names, "```", ""])


def with_menu(name: str, page: str) -> str:
    """The index with its lists as the site's menu: each heading a caption, each list its pages."""
    if name == _DECISIONS:
        return page + toctree(_DECISION.findall(page))
    if name == root_doc:
        pieces = _PART.split(page)
        for caption, part in zip(pieces[1::2], pieces[2::2], strict=True):
            page += toctree([f"{title.replace('`', '')} <{entry}>" for title, entry in _ENTRY.findall(part)], caption)
    return page


def inward(page: str) -> str:
    """Links to Markdown outside of this folder: to the site's copy, else to the file as it is."""
    page = re.sub(r"\]\(((?:\.\./)*)\.\./(CONTRIBUTING|CHANGELOG)\.md", lambda to: f"]({to[1]}{to[2].lower()}.md", page)
    return re.sub(r"\]\(((?:\.\./)+benchmarks/[\w/.-]+\.(?:md|json))\)", r"](path:\1)", page)


def read(app: Sphinx, name: str, source: list[str]) -> None:
    """What is added to a page when it is read."""
    page = source[0]
    if made.renewed(page) != page:
        logging.getLogger(__name__).warning("is older than the code: run python docs/made.py", location=name)
    page = made.complete(page)
    # The picture is drawn by a program of the web; the table below it has all that it says.
    page = re.sub(r"^```mermaid\n.*?^```\n", "", page, flags=re.MULTILINE | re.DOTALL)
    source[0] = with_menu(name, inward(page))


FETCHED = re.compile(r"""<(?:link|script|img|iframe)\b[^>]*(?:href|src)=["']?(?:https?:)?//|url\(["']?(?:https?:)?//""")


def check_offline(app: Sphinx, error: Exception | None) -> None:
    """No page may make a browser fetch anything from elsewhere."""
    files = [path for path in app.outdir.rglob("*") if path.suffix in (".html", ".css")]
    found = [path.name for path in files if FETCHED.search(path.read_text(encoding="utf-8"))]
    if found and error is None:
        raise SphinxError(f"pages that fetch from elsewhere: {', '.join(sorted(found))}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", read)
    app.connect("build-finished", check_offline)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
