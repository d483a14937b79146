"""The page itself: one HTML file with sections, notices, figures, and nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from totalanvi.pages.elements import Child, Element, element, markup
from totalanvi.pages.style import STYLE

__all__ = ["Section", "figure", "notices", "page", "paragraph", "sideways"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Told to the browser, so that it would load and run nothing even if something asked it to."""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Parameters
    ----------
    title
        Unlike those of other sections.
    content
        What stands below it.
    """

    title: str
    content: Sequence[Child]

    @property
    def anchor(self) -> str:
        """What links within the page call it."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def page(title: str, lead: Sequence[Child], sections: Sequence[Section]) -> str:
    """Write a page.

    Parameters
    ----------
    title
        Of the page.
    lead
        What stands above all sections: what a reader should know who reads no further.
    sections
        In their order.

    Examples
    --------
    >>> "<h1>&lt;Query&gt;</h1>" in page("<Query>", [paragraph("Nothing.")], [])
    True
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", content=_POLICY, **{"http-equiv": "Content-Security-Policy"}),
        element("title", title),
        element("style", STYLE),
    )
    links = [element("a", section.title, href=f"#{section.anchor}") for section in sections]
    main = element(
        "main",
        element("h1", title),
        lead,
        element("nav", links, aria_label="Sections") if links else None,
        (element("section", element("h2", section.title, id=section.anchor), section.content) for section in sections),
    )
    return f"<!doctype html>\n{markup(element('html', head, element('body', main), lang='en'))}\n"


def paragraph(*content: Child, class_: str | None = None) -> Element:
    """Make a paragraph."""
    return element("p", *content, class_=class_)


def notices(messages: Iterable[str], none: str) -> Element:
    """Say what a reader should beware of.

    Parameters
    ----------
    messages
        A sentence or more each.
    none
        What to say where there is nothing.
    """
    listed = [element("li", message) for message in messages]
    if not listed:
        return element("p", none, class_="fine")
    return element(
        "div", element("strong", "Beware"), element("ul", listed), class_="warning", role="note", aria_label="Warnings"
    )


def figure(chart: Element, caption: str, numbers: Element | None = None, scroll: bool = False) -> Element:
    """Put a chart with what it says in words, and its numbers.

    Parameters
    ----------
    chart
        What is shown.
    caption
        What to see in it.
    numbers
        A table with the same, which readers open when they want it.
    scroll
        Whether a chart that is wider than the page may be moved sideways, instead of made small.
    """
    return element(
        "figure",
        sideways(chart, caption) if scroll else chart,
        element("figcaption", caption),
        element("details", element("summary", "The numbers"), sideways(numbers, f"The numbers: {caption}"))
        if numbers is not None
        else None,
    )


def sideways(wide: Element, name: str) -> Element:
    """Let what may be wider than the page be moved sideways, with the keyboard as well.

    Parameters
    ----------
    wide
        A chart or a table.
    name
        What it is, for who cannot see it.
    """
    return element("div", wide, class_="scroll", tabindex="0", role="group", aria_label=name)
