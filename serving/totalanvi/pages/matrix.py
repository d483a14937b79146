"""A matrix as coloured squares: labels against labels, or against proteins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from totalanvi.pages.elements import Element, element
from totalanvi.pages.palette import INK

__all__ = ["matrix"]

_SIDES = (13, 22)
"""Of a square; as large as a page has room for."""
_ROOM = 800
_LETTER = 7.2
_LONGEST = 24
_LIGHT, _DARK = np.array([247, 251, 255]), np.array([8, 48, 107])
"""One hue from light to dark: it stays in order in grey, and for every colour vision."""


def matrix(
    values: npt.NDArray[np.floating], rows: Sequence[str], columns: Sequence[str], title: str, unit: str = ""
) -> Element:
    """Draw a matrix.

    Parameters
    ----------
    values
        (rows, columns), in [0, 1], which is from light to dark; NaN stays white.
    rows, columns
        Their names.
    title
        What it shows, for who cannot see it.
    unit
        What stands behind each value for the pointer.
    """
    side = int(np.clip(_ROOM // len(columns), *_SIDES))
    left = 12 + _LETTER * max(len(_short(name)) for name in rows)
    top = 18 + 0.71 * _LETTER * max(len(_short(name)) for name in columns)
    width = left + side * len(columns) + 0.71 * _LETTER * len(_short(columns[-1])) + 18
    height = top + side * len(rows) + 4
    drawn = []
    for place, name in enumerate(columns):
        at = left + side * (place + 0.6)
        drawn.append(
            element(
                "text",
                _short(name),
                transform=f"translate({at:.1f} {top - 5:.1f}) rotate(-45)",
                font_size=min(12, side - 1),
            )
        )
    for place, name in enumerate(rows):
        at = top + side * (place + 0.7)
        edge = round(left - 6, 1)
        drawn.append(
            element("text", _short(name), x=edge, y=round(at, 1), text_anchor="end", font_size=min(12, side - 1))
        )
        drawn += [
            _square(
                left + side * column, top + side * place, side, value, f"{name}, {columns[column]}: {value:.2f}{unit}"
            )
            for column, value in enumerate(values[place].tolist())
            if value == value
        ]
    frame = element(
        "rect",
        x=round(left, 1),
        y=round(top, 1),
        width=side * len(columns),
        height=side * len(rows),
        fill="none",
        stroke=INK,
    )
    return element(
        "svg",
        element("title", title),
        drawn,
        frame,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=round(width),
        height=round(height),
        role="img",
        aria_label=title,
        class_="wide",
    )


def _square(x: float, y: float, side: int, value: float, title: str) -> Element:
    red, green, blue = np.rint(_LIGHT + (_DARK - _LIGHT) * min(max(value, 0), 1)).astype(int).tolist()
    return element(
        "rect",
        element("title", title),
        x=round(x, 1),
        y=round(y, 1),
        width=side - 1,
        height=side - 1,
        fill=f"#{red:02x}{green:02x}{blue:02x}",
    )


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
