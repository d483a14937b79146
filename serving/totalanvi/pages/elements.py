"""Elements of a page: text is put into a tree and escaped when the tree is written, so none can become markup."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element, tostring

__all__ = ["Child", "Element", "element", "markup"]

Child = Element | str | None
"""What an element may hold; None is left out."""

_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no page may contain, and what turns the direction of writing is not among it: `bdi` keeps that to itself."""


def element(tag: str, *children: Child | Iterable[Child], **attributes: object) -> Element:
    """Make an element.

    Parameters
    ----------
    tag
        Its name, one that this package's code knows.
    children
        Elements and text, or several of them; None is left out.
    attributes
        By name, with ``_`` for ``-`` and after a word of Python; None leaves an attribute out.

    Examples
    --------
    >>> markup(element("p", "a < b", element("b", "!"), class_="note", aria_label='"'))
    '<p class="note" aria-label="&quot;">a &lt; b<b>!</b></p>'
    """
    present = {name: value for name, value in attributes.items() if value is not None}
    made = Element(tag, {name.rstrip("_").replace("_", "-"): _text(value) for name, value in present.items()})
    last: Element | None = None
    for child in _flat(children):
        if isinstance(child, Element):
            made.append(child)
            last = child
        elif last is None:
            made.text = (made.text or "") + _text(child)
        else:
            last.tail = (last.tail or "") + _text(child)
    return made


def markup(root: Element) -> str:
    """Write an element, and all that is in it, as HTML."""
    return tostring(root, encoding="unicode", method="html")


def _flat(children: Iterable[Child | Iterable[Child]]) -> Iterable[Element | str]:
    for child in children:
        # An element is iterable, too.
        if isinstance(child, (Element, str)):
            yield child
        elif child is not None:
            yield from (one for one in child if one is not None)


def _text(value: object) -> str:
    return _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", str(value))
