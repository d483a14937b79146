"""Pages taken apart as a browser would, to ask what is on them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

__all__ = ["Node", "parse_page", "references_elsewhere"]

VOID = {"meta", "br", "hr", "img", "input", "link"}
LEADING_OUT = {"src", "href", "xlink:href", "srcset", "action", "formaction", "data", "poster", "background", "ping"}
LOADING = {"script", "iframe", "object", "embed", "link", "img", "audio", "video", "base", "form", "use", "image"}


@dataclass
class Node:
    """An element: its name, its attributes, and what it holds."""

    tag: str
    attributes: dict[str, str]
    children: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text in it, runs of space as one."""
        parts = (child if isinstance(child, str) else child.text for child in self.children)
        return re.sub(r"\s+", " ", "".join(parts)).strip()

    def all(self, tag: str = "*", **attributes: str) -> list[Node]:
        """Return the elements in it of that name, with these attributes."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        found = []
        for child in self.children:
            if isinstance(child, Node):
                if tag in ("*", child.tag) and wanted.items() <= child.attributes.items():
                    found.append(child)
                found += child.all(tag, **attributes)
        return found

    def section(self, title: str) -> Node:
        """Return the section of that title."""
        (found,) = [section for section in self.all("section") if section.all("h2")[0].text == title]
        return found

    def rows(self) -> list[list[str]]:
        """Return the text of the cells of the first table in it, row by row, the head first."""
        return [[cell.text for cell in row.all() if cell.tag in ("td", "th")] for row in self.all("table")[0].all("tr")]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"<{self.open[-1].tag}> is closed as </{tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse_page(content: str) -> Node:
    """Take a page apart; what is opened has to be closed in order."""
    parser = _Parser()
    parser.feed(content)
    parser.close()
    assert parser.open == [parser.root]
    return parser.root


def references_elsewhere(page: Node) -> list[str]:
    """List what on a page would load, run or send anything, or lead out of it."""
    found = []
    for node in page.all():
        if node.tag in LOADING:
            found.append(f"<{node.tag}>")
        for name, value in node.attributes.items():
            if (name in LEADING_OUT and not value.startswith("#")) or name.startswith("on"):
                found.append(f"{node.tag} {name}={value}")
            if name == "http-equiv" and value != "Content-Security-Policy":
                found.append(f"{node.tag} {name}={value}")
            if re.search(r"url\(|@import|expression\(", value):
                found.append(f"{node.tag} {name}={value}")
        if node.tag == "style" and re.search(r"url\(|@import|expression\(", node.text):
            found.append("style")
    return found
