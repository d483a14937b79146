"""Tables: of figures, of facts, and with bars in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from totalanvi.pages.elements import Child, Element, element

__all__ = ["Bar", "Cell", "count", "facts", "names_list", "percent", "share", "table"]

_MOST_NAMES = 200
_NUMBER = re.compile(r"[<>]? ?[0-9.]+(e[+-]\d+)?(\xa0%)?")


@dataclass(frozen=True)
class Bar:
    """A bar in a table's cell.

    Parameters
    ----------
    part
        Its length as a part of the column's width, in [0, 1].
    colour
        Other than the usual one.
    low
        Whether it stands for something to beware of.
    """

    part: float
    colour: str | None = None
    low: bool = False

    def element(self) -> Element:
        """Draw it; the number that it stands for is in another cell."""
        colour = f";background:{self.colour}" if self.colour else ""
        return element(
            "div",
            style=f"width:{100 * min(max(self.part, 0), 1):.2f}%{colour}",
            class_="low" if self.low else None,
            aria_hidden="true",
        )


Cell = Child | Bar | int | float | Sequence[Child]
"""What a table shows: text, a bar, a number; NaN is not known."""


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str | None = None, spare: Sequence[int] = ()
) -> Element:
    """Make a table, of which the first column names the rows.

    Parameters
    ----------
    columns
        Their names; that of a column of bars, which another column has as numbers, may be empty.
    rows
        A cell for each column.
    caption
        What it is of.
    spare
        Places of columns that a narrow screen does without.

    Examples
    --------
    >>> cells = table(["label", "cells"], [["B", 12000]]).iter("td")
    >>> [cell.text for cell in cells]
    ['12,000']
    """
    body = [list(row) for row in rows]
    bars = any(isinstance(cell, Bar) for row in body for cell in row)
    numeric = [place > 0 and all(_is_number(row[place]) for row in body) for place in range(len(columns))]

    def classes(place: int) -> str | None:
        found = [name for name, wanted in (("number", numeric[place]), ("spare", place in spare)) if wanted]
        return " ".join(found) or None

    return element(
        "table",
        element("caption", caption) if caption else None,
        element(
            "thead",
            element("tr", (_head(name, classes(i)) for i, name in enumerate(columns))),
        ),
        element("tbody", (element("tr", (_cell(c, i, classes(i)) for i, c in enumerate(row))) for row in body)),
        class_="bars" if bars else None,
    )


def facts(pairs: Iterable[tuple[str, Child | Sequence[Child]]]) -> Element:
    """Make a table of names and what they are."""
    rows = (element("tr", element("th", name, scope="row"), element("td", value)) for name, value in pairs)
    return element("table", element("tbody", rows), class_="facts")


def names_list(title: str, names: Sequence[str], total: int | None = None) -> Element | None:
    """List names behind a title that says how many there are; None where there is none.

    Parameters
    ----------
    title
        What they are.
    names
        Those that are known; at most 200 are shown.
    total
        How many there are, where not all of them are given.
    """
    if not names:
        return None
    n_names = max(total or 0, len(names))
    more = n_names - min(len(names), _MOST_NAMES)
    tail = f" … and {count(more)} more" if more else ""
    listed = ", ".join(names[:_MOST_NAMES]) + tail
    return element("details", element("summary", f"{title} ({count(n_names)})"), element("p", listed))


def count(number: int) -> str:
    """Write a number of things."""
    return f"{number:,}"


def share(part: float) -> str:
    """Write a measured share, so that little is not nothing and most is not all.

    Examples
    --------
    >>> [share(part).replace("\u00a0", " ") for part in (0.5, 0.00001, 0.99999, 0, 1)]
    ['50.0 %', '< 0.1 %', '> 99.9 %', '0 %', '100 %']
    """
    if 0 < part < 0.001:
        return "< 0.1\u00a0%"
    if 0.999 < part < 1:
        return "> 99.9\u00a0%"
    return percent(part) if part in (0, 1) else f"{100 * part:.1f}\u00a0%"


def percent(part: float) -> str:
    """Write a share that somebody chose.

    Examples
    --------
    >>> percent(0.9).replace("\u00a0", " "), percent(0.975).replace("\u00a0", " ")
    ('90 %', '97.5 %')
    """
    return f"{100 * part:.6g}\u00a0%"


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, (int, float)) or (isinstance(cell, str) and _NUMBER.fullmatch(cell) is not None)


def _head(name: str, classes: str | None) -> Element:
    # A heading that says nothing would be read out as one.
    return element("th", name, scope="col", class_=classes) if name else element("td", class_=classes)


def _cell(cell: Cell, place: int, classes: str | None) -> Element:
    if isinstance(cell, Bar):
        return element("td", cell.element(), class_="bar" if classes is None else f"bar {classes}")
    shown: Child | Sequence[Child]
    if isinstance(cell, bool | int):
        shown = count(cell)
    elif isinstance(cell, float):
        shown = _figure(cell)
    else:
        shown = cell
    if place == 0:
        return element("th", shown, scope="row", class_=classes)
    return element("td", shown, class_=classes)


def _figure(number: float) -> str:
    if number != number:
        return "not known"
    size = abs(number)
    return f"{number:,.0f}" if size >= 100 else f"{number:.1f}" if size >= 10 else f"{number:.3f}"
