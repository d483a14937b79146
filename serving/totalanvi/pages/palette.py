"""What tells labels apart: colours that most people with any colour vision can, and marks of different shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from totalanvi.pages.elements import Element, element

__all__ = [
    "BACKGROUND",
    "COLOURS",
    "GRID",
    "INK",
    "UNKNOWN_STYLE",
    "LabelStyle",
    "marks",
    "ranked_styles",
    "style_of",
    "swatch",
]

INK, GRID, BACKGROUND = "#1a1a1a", "#d5d5d5", "#c4c8cc"
"""Of text and axes, of lines behind, and of what is only there for comparison."""

COLOURS = ("#172ce5", "#a88a11", "#e5396d", "#5c93e5", "#5c3b09", "#a8117b", "#540f99")
"""Found by search: as far apart as seven can be, from each other, from ink and from the background, for who sees all
colours and for who lacks one kind of cone, and dark enough to stand out from white (3 to 1)."""

Shape = Literal["dot", "square", "plus", "triangle", "ring", "diamond", "cross"]

_SHAPES: tuple[Shape, ...] = ("dot", "plus", "triangle", "ring", "square", "diamond")
"""In turn, one for each round of colours; with more than 42 labels, numbers alone tell some of them apart."""

_OUTLINES: dict[Shape, str] = {
    "dot": "h0",
    "square": "m-5-5h10v10h-10z",
    "plus": "m-6 0h12m-6-6v12",
    "triangle": "m0-7l7 12h-14z",
    "ring": "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0",
    "diamond": "m0-8l6 8l-6 8l-6-8z",
    "cross": "m-5-5l10 10m0-10l-10 10",
}
_FILLED = {"square", "triangle", "diamond"}


@dataclass(frozen=True)
class LabelStyle:
    """How the cells of one label are drawn."""

    colour: str
    shape: Shape


UNKNOWN_STYLE = LabelStyle(INK, "cross")


def style_of(rank: int) -> LabelStyle:
    """Return the style of the label that comes at this place, from 0.

    Examples
    --------
    >>> style_of(0).shape, style_of(7).shape, style_of(0).colour == style_of(7).colour
    ('dot', 'plus', True)
    """
    return LabelStyle(COLOURS[rank % len(COLOURS)], _SHAPES[rank // len(COLOURS) % len(_SHAPES)])


def ranked_styles(counts: npt.NDArray[np.integer]) -> list[tuple[int, str, LabelStyle]]:
    """Give the labels that have cells signs and styles, the commonest first.

    Parameters
    ----------
    counts
        Cells of each label, (labels,).

    Returns
    -------
    list of tuple
        Code, sign and style.

    Examples
    --------
    >>> [(code, sign) for code, sign, _ in ranked_styles(np.array([3, 0, 5]))]
    [(2, '1'), (0, '2')]
    """
    codes = [code for code in np.argsort(-counts, kind="stable").tolist() if counts[code]]
    return [(code, str(rank + 1), style_of(rank)) for rank, code in enumerate(codes)]


def marks(points: npt.NDArray[np.integer], style: LabelStyle, size: float = 10, title: str | None = None) -> Element:
    """Draw points as one path, so that thousands of them stay small and quick.

    Parameters
    ----------
    points
        Places on the canvas, (points, 2).
    style
        Of all of them.
    size
        Diameter of a dot, in units of the canvas.
    title
        What a pointer over them is told.
    """
    outline = _OUTLINES[style.shape]
    path = "".join(f"M{x} {y}{outline}" for x, y in points.tolist())
    filled = style.shape in _FILLED
    return element(
        "path",
        element("title", title) if title else None,
        d=path,
        fill=style.colour if filled else "none",
        stroke=None if filled else style.colour,
        stroke_width=None if filled else size if style.shape == "dot" else round(size / 4, 2),
        stroke_linecap="round" if style.shape == "dot" else None,
    )


def swatch(style: LabelStyle) -> Element:
    """Draw one mark, to stand beside a label's name."""
    return element(
        "svg",
        marks(np.array([[10, 10]]), style, size=12),
        viewBox="0 0 20 20",
        class_="swatch",
        aria_hidden="true",
    )
