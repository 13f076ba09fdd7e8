"""Reading a page as a browser would, as far as tests need it."""

import re
from html.parser import HTMLParser

VOID = frozenset({"meta", "br", "link", "img", "hr", "input"})
"""HTML's; SVG's own elements close themselves with a slash."""


class Element:
    """A tag with its attributes, what is in it, and what it is in."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: "Element | None") -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Element] = []
        self.own_text = ""

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    @property
    def text(self) -> str:
        return self.own_text + "".join(child.text for child in self.children)

    def all(self, tag: str | None = None, style: str | None = None) -> "list[Element]":
        """Everything below, in order."""
        found = []
        for child in self.children:
            if (tag is None or child.tag == tag) and (style is None or style in child.classes):
                found.append(child)
            found += child.all(tag, style)
        return found

    def ancestors(self) -> "list[Element]":
        return [] if self.parent is None else [self.parent, *self.parent.ancestors()]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = self.at = Element("", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in {self.get_starttag_text()}"
        element = Element(tag, {name: value or "" for name, value in attrs}, self.at)
        self.at.children.append(element)
        if tag not in VOID:
            self.at = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.own_text += data


def read_page(text: str) -> Element:
    """Return the page's root. Every tag must be closed by its own, and no attribute may be given twice."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.at is reader.root, f"<{reader.at.tag}> is never closed"
    return reader.root


def rules(css: str) -> list[tuple[str, dict[str, str]]]:
    """Selectors with their declarations, media queries looked through."""
    flat = re.sub(r"@media[^{]*\{", "", css)
    return [
        (selector.strip(), dict(part.strip().split(":", 1) for part in body.split(";") if ":" in part))
        for selector, body in re.findall(r"([^{}]+)\{([^{}]*)\}", flat)
    ]
