"""A map of cells: points of each label, their number among them, and others behind for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.pages.elements import Element, element
from totalanvi.pages.palette import BACKGROUND, LabelStyle, marks, swatch

__all__ = ["Group", "cell_map"]

_SIDE = 1000
"""Of the canvas; whole units are fine enough, and short."""
_MARGIN = 30
_LETTERS = 29
_ROUNDS = 60


@dataclass(frozen=True, eq=False)
class Group:
    """Points that belong together.

    Parameters
    ----------
    name
        What they are.
    points
        Places, (points, 2).
    style
        How they are drawn.
    sign
        A number or letter that stands for the name, on the map and in the list of names.
    note
        What the list says beside the name.
    """

    name: str
    points: npt.NDArray[np.floating]
    style: LabelStyle
    sign: str
    note: str = ""


def cell_map(groups: Sequence[Group], title: str, behind: npt.NDArray[np.floating] | None = None) -> Element:
    """Draw a map, and name its groups below.

    Parameters
    ----------
    groups
        The largest first, which is drawn first.
    title
        What it shows, for who cannot see it.
    behind
        Points to compare with, (points, 2).
    """
    parts = [group.points for group in groups] + ([] if behind is None else [behind])
    everything = np.concatenate([part for part in parts if len(part)] or [np.zeros((1, 2))])
    low = everything.min(axis=0)
    span = max(float(np.ptp(everything, axis=0).max()), 1e-6)
    # As wide as it is high, so that distances mean the same in all directions; the map is put in the middle.
    offset = (span - np.ptp(everything, axis=0)) / 2

    def placed(points: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        scaled = (points - low + offset) / span * (_SIDE - 2 * _MARGIN) + _MARGIN
        scaled[:, 1] = _SIDE - scaled[:, 1]
        on_canvas: npt.NDArray[np.int64] = np.rint(scaled).astype(np.int64)
        return on_canvas

    size = float(np.clip(260 / np.sqrt(max(sum(len(group.points) for group in groups), 1)), 4, 14))
    drawn = [] if behind is None else [marks(placed(behind), LabelStyle(BACKGROUND, "dot"), 7, "reference")]
    shown = [group for group in groups if len(group.points)]
    drawn += [
        marks(placed(group.points), group.style, size, f"{group.name} ({len(group.points):,} cells shown)")
        for group in shown
    ]
    drawn += _signs([(group.sign, placed(group.points)) for group in shown])
    canvas = element(
        "svg",
        element("title", title),
        drawn,
        viewBox=f"0 0 {_SIDE} {_SIDE}",
        role="img",
        aria_label=title,
        class_="map",
    )
    names = [
        element("li", swatch(group.style), element("b", group.sign), f" {group.name}", f" {group.note}")
        for group in groups
    ]
    return element("div", canvas, element("ul", names, class_="legend"))


def _signs(groups: Sequence[tuple[str, npt.NDArray[np.int64]]]) -> list[Element]:
    """Write each group's sign where its points are densest, moved apart where two would overlap."""
    if not groups:
        return []
    places = np.array([_middle(points) for _, points in groups], dtype=np.float64)
    for _ in range(_ROUNDS):
        apart = places[:, None] - places
        apart[..., 1] *= 1.2
        distance = np.hypot(*np.moveaxis(apart, -1, 0)) + np.eye(len(places)) * 1e9
        if distance.min() >= _LETTERS * 1.3:
            break
        # Those on the same spot go different ways.
        direction = apart / np.maximum(distance, 1)[..., None] + _spread(len(places)) * (distance < 1)[..., None]
        push = np.clip(_LETTERS * 1.3 - distance, 0, None)[..., None] * direction / 3
        places = np.clip(places + push.sum(axis=1), _LETTERS, _SIDE - _LETTERS)
    return [
        element(
            "text",
            sign,
            x=round(x),
            y=round(y + _LETTERS / 3),
            text_anchor="middle",
            font_size=_LETTERS,
            font_weight="bold",
            paint_order="stroke",
            stroke="#fff",
            stroke_width=8,
            stroke_linejoin="round",
        )
        for (sign, _), (x, y) in zip(groups, places.tolist(), strict=True)
    ]


def _middle(points: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The point nearest to the median: a place where the group is, even where it is in two parts."""
    middle = np.median(points, axis=0)
    nearest: npt.NDArray[np.int64] = points[np.abs(points - middle).sum(axis=1).argmin()]
    return nearest


def _spread(n: int) -> npt.NDArray[np.float64]:
    angle = np.arange(n) * 2.4
    ways: npt.NDArray[np.float64] = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None]
    return ways
