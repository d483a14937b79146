"""Histograms and curves as SVG, small enough in their own units to be read on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.pages.elements import Element, element
from totalanvi.pages.palette import COLOURS, GRID, INK

__all__ = ["Axis", "Curve", "Mark", "curves", "histogram"]

_WIDTH, _HEIGHT = 400, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 26, 44
_DASHES = (None, "7 4", "2 4", "10 4 2 4")
"""With the colours of curves, so that these need no colour to be told apart."""


@dataclass(frozen=True)
class Axis:
    """One axis of a plot.

    Parameters
    ----------
    title
        What it measures.
    low, high
        Its ends.
    """

    title: str
    low: float
    high: float

    def ticks(self) -> list[float]:
        """Choose round values to mark: about five.

        Examples
        --------
        >>> Axis("share", 0, 1).ticks()
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        """
        span = self.high - self.low
        power = 10.0 ** np.floor(np.log10(span / 4))
        step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if span / (factor * power) <= 5.5)
        first = np.ceil(self.low / step - 1e-9)
        last = np.floor(self.high / step + 1e-9)
        return [float(round(n * step, 12)) + 0.0 for n in np.arange(first, last + 1)]


@dataclass(frozen=True, eq=False)
class Curve:
    """A line.

    Parameters
    ----------
    name
        What it is of.
    x, y
        Its points, (points,), in the order of x; those that are not finite are left out.
    points
        Whether to mark each.
    """

    name: str
    x: Sequence[float] | npt.NDArray[np.floating]
    y: Sequence[float] | npt.NDArray[np.floating]
    points: bool = False


@dataclass(frozen=True)
class Mark:
    """An upright line at a value, and what it stands for."""

    at: float
    name: str


class _Frame:
    """Where on the canvas values lie."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self.x, self.y = x, y

    def across(self, value: float) -> float:
        return round(_LEFT + (value - self.x.low) / (self.x.high - self.x.low) * (_WIDTH - _LEFT - _RIGHT), 1)

    def up(self, value: float) -> float:
        return round(_HEIGHT - _BOTTOM - (value - self.y.low) / (self.y.high - self.y.low) * self.height, 1)

    @property
    def height(self) -> int:
        return _HEIGHT - _TOP - _BOTTOM

    def cut(self, drawn: Sequence[Element]) -> Element:
        """Show what lies within the axes alone, with room for the width of lines."""
        box = (_LEFT, _TOP - 2, _WIDTH - _LEFT - _RIGHT, self.height + 4)
        sizes = dict(zip(("x", "y", "width", "height"), box, strict=True))
        return element("svg", drawn, viewBox=" ".join(map(str, box)), overflow="hidden", **sizes)

    def axes(self) -> Iterable[Element]:
        base, middle = _HEIGHT - _BOTTOM, (_LEFT + _WIDTH - _RIGHT) / 2
        for value in self.y.ticks():
            at = self.up(value)
            yield element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at, stroke=GRID)
            yield element("text", _short(value), x=_LEFT - 6, y=at + 4, text_anchor="end", font_size=12)
        yield element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=base, y2=base, stroke=INK)
        for value in self.x.ticks():
            at = self.across(value)
            yield element("line", x1=at, x2=at, y1=base, y2=base + 4, stroke=INK)
            yield element("text", _short(value), x=at, y=base + 18, text_anchor="middle", font_size=12)
        yield element("text", self.x.title, x=middle, y=_HEIGHT - 6, text_anchor="middle", font_size=13)
        yield element("text", self.y.title, x=4, y=14, font_size=13)


def histogram(counts: npt.NDArray[np.integer], x: Axis, y_title: str, title: str, mark: Mark | None = None) -> Element:
    """Draw how many there are in each of some equal steps.

    Parameters
    ----------
    counts
        (bins,), from ``x.low`` to ``x.high``.
    x
        What was counted.
    y_title
        What the numbers are of.
    title
        What the chart shows, for who cannot see it.
    mark
        A value to point out.
    """
    frame = _Frame(x, Axis(y_title, 0, max(int(counts.max(initial=0)), 1) * 1.05))
    edges = np.linspace(x.low, x.high, len(counts) + 1)
    bars = []
    for low, high, number in zip(edges[:-1], edges[1:], counts.tolist(), strict=True):
        left, right, top = frame.across(low), frame.across(high), frame.up(number)
        if number:
            # One cell among a million still shows.
            height = max(_HEIGHT - _BOTTOM - top, 1.0)
            bars.append(
                element(
                    "rect",
                    element("title", f"{low:.2f} to {high:.2f}: {number:,}"),
                    x=left + 0.5,
                    y=round(_HEIGHT - _BOTTOM - height, 1),
                    width=round(max(right - left - 1, 0.5), 1),
                    height=round(height, 1),
                    fill=COLOURS[0],
                )
            )
    return _canvas(title, [*frame.axes(), *bars, *(_mark(frame, mark) if mark else ())])


def curves(lines: Sequence[Curve], x: Axis, y: Axis, title: str, diagonal: bool = False) -> Element:
    """Draw lines, named above the plot.

    Parameters
    ----------
    lines
        At most as many as there are colours.
    x, y
        What they are of; what lies beyond them is cut off.
    title
        What the chart shows, for who cannot see it.
    diagonal
        Whether to draw where y is x.
    """
    frame = _Frame(x, y)
    diagonals, inside, above = [], [], []
    if diagonal:
        low, high = max(x.low, y.low), min(x.high, y.high)
        ends = {"x1": frame.across(low), "y1": frame.up(low), "x2": frame.across(high), "y2": frame.up(high)}
        diagonals.append(element("line", stroke="#6b6b6b", stroke_dasharray="3 3", **ends))
    for place, line in enumerate(lines):
        colour, dashes = COLOURS[place % len(COLOURS)], _DASHES[place % len(_DASHES)]
        known = [(a, b) for a, b in zip(line.x, line.y, strict=True) if np.isfinite(a) and np.isfinite(b)]
        at = [(frame.across(a), frame.up(b)) for a, b in known]
        inside.append(
            element(
                "polyline",
                element("title", line.name),
                points=" ".join(f"{a},{b}" for a, b in at),
                fill="none",
                stroke=colour,
                stroke_width=2,
                stroke_dasharray=dashes,
                stroke_linejoin="round",
            )
        )
        if line.points or len(at) == 1:
            above += [
                element("circle", element("title", f"{line.name}: {a:.3g}, {b:.3g}"), cx=p, cy=q, r=3.5, fill=colour)
                for (a, b), (p, q) in zip(known, at, strict=True)
                if y.low <= b <= y.high
            ]
    drawn = [*frame.axes(), *diagonals, frame.cut(inside), *above]
    return element("div", _legend(lines), _canvas(title, drawn))


def _legend(lines: Sequence[Curve]) -> Element:
    entries = []
    for place, line in enumerate(lines):
        stroke = element(
            "line",
            x1=0,
            x2=30,
            y1=10,
            y2=10,
            stroke=COLOURS[place % len(COLOURS)],
            stroke_width=3,
            stroke_dasharray=_DASHES[place % len(_DASHES)],
        )
        sample = element("svg", stroke, viewBox="0 0 30 20", width=30, height=20, aria_hidden="true", class_="line")
        entries.append(element("li", sample, f" {line.name}"))
    return element("ul", entries, class_="legend")


def _mark(frame: _Frame, mark: Mark) -> Iterable[Element]:
    at = frame.across(mark.at)
    right = at > (_LEFT + _WIDTH) / 2
    yield element("line", x1=at, x2=at, y1=_TOP, y2=_HEIGHT - _BOTTOM, stroke="#b34700", stroke_dasharray="4 3")
    yield element(
        "text",
        mark.name,
        x=at - 5 if right else at + 5,
        y=_TOP + 10,
        text_anchor="end" if right else "start",
        font_size=12,
        paint_order="stroke",
        stroke="#fff",
        stroke_width=4,
    )


def _canvas(title: str, drawn: Iterable[Element]) -> Element:
    return element(
        "svg",
        element("title", title),
        drawn,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=title,
        class_="plot",
    )


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1e3:g}k"
    return f"{value:g}"
