"""Pages: escaped, self-contained, and drawn so that everybody can tell things apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.support.colours import SIGHTS, luminance, seen_by
from tests.support.pages import parse_page, references_elsewhere

from totalanvi.pages.citation import PAPERS
from totalanvi.pages.elements import element, markup
from totalanvi.pages.matrix import matrix
from totalanvi.pages.page import Section, figure, notices, page, paragraph
from totalanvi.pages.palette import BACKGROUND, COLOURS, INK, style_of
from totalanvi.pages.plots import Axis, Curve, Mark, curves, histogram
from totalanvi.pages.scatter import Group, cell_map
from totalanvi.pages.tables import Bar, names_list, table

HOSTILE = "</style></title><script>alert('1')</script> & \"<img src=x onerror=alert(1)>"


def hostile_page() -> str:
    """Put the same text wherever a page takes any."""
    points = np.zeros((3, 2))
    return page(
        HOSTILE,
        [notices([HOSTILE], HOSTILE), notices([], HOSTILE)],
        [
            Section(
                HOSTILE,
                [
                    paragraph(HOSTILE),
                    table([HOSTILE, ""], [[HOSTILE, Bar(0.5)]], HOSTILE),
                    names_list(HOSTILE, [HOSTILE]),
                    figure(cell_map([Group(HOSTILE, points, style_of(0), HOSTILE, HOSTILE)], HOSTILE), HOSTILE),
                    figure(matrix(np.ones((1, 1)), [HOSTILE], [HOSTILE], HOSTILE, HOSTILE), HOSTILE, scroll=True),
                    histogram(np.ones(4, int), Axis(HOSTILE, 0, 1), HOSTILE, HOSTILE, Mark(0.5, HOSTILE)),
                    curves([Curve(HOSTILE, [0, 1], [0, 1])], Axis(HOSTILE, 0, 1), Axis(HOSTILE, 0, 1), HOSTILE),
                ],
            )
        ],
    )


def test_text_stays_text_wherever_it_is_put() -> None:
    parsed = parse_page(hostile_page())
    assert references_elsewhere(parsed) == []
    assert parsed.all("title")[0].text == HOSTILE
    assert parsed.all("h1")[0].text == HOSTILE
    assert parsed.all("th")[0].text == HOSTILE
    assert [node.tag for node in parsed.all("head")[0].all()] == ["meta", "meta", "meta", "title", "style"]


def test_the_search_for_references_sees_them() -> None:
    seen = parse_page('<p onclick="x"><a href="http://a">b</a><i style="background:url(c)"></i></p><script></script>')
    assert len(references_elsewhere(seen)) == 4


@given(st.text(), st.text())
def test_any_text_comes_back_as_it_was(text: str, attribute: str) -> None:
    (found,) = parse_page(markup(element("p", text, title=attribute))).all("p")
    # HTML has no place for control characters; a parser may take what stands alone for a line's end as one.
    expected = "".join(
        "\N{REPLACEMENT CHARACTER}" if (ord(c) < 32 and c not in "\t\n\r") or 127 <= ord(c) < 160 else c for c in text
    )
    assert "".join(child for child in found.children if isinstance(child, str)) == expected
    assert len(found.attributes) == 1


def test_an_element_holds_elements_and_text_in_order() -> None:
    made = element("p", "a", element("b", "c"), "d", None, (element("i"), "e", None), class_="x", id=None)
    assert markup(made) == '<p class="x">a<b>c</b>d<i></i>e</p>'


def test_charts_say_in_words_what_they_are() -> None:
    parsed = parse_page(hostile_page())
    seen = [svg for svg in parsed.all("svg") if svg.attributes.get("aria-hidden") != "true"]
    within = [inner for svg in seen for inner in svg.all("svg")]
    charts = [svg for svg in seen if not any(svg is inner for inner in within)]
    assert len(charts) == 4
    for chart in charts:
        assert chart.attributes["role"] == "img"
        assert chart.attributes["aria-label"] == chart.all("title")[0].text == HOSTILE


def test_a_browser_is_told_to_load_nothing() -> None:
    (policy,) = parse_page(hostile_page()).all("meta", http_equiv="Content-Security-Policy")
    assert policy.attributes["content"].startswith("default-src 'none'; style-src 'unsafe-inline'")


@pytest.mark.parametrize("kind", SIGHTS)
def test_colours_can_be_told_apart_and_seen_on_white(kind: str) -> None:
    seen = [seen_by(colour, kind) for colour in (*COLOURS, INK, BACKGROUND)]
    distances = [np.linalg.norm(a - b) for place, a in enumerate(seen) for b in seen[:place]]
    # A difference of 2.3 is just seen, side by side.
    assert min(distances) > 24
    for colour in (*COLOURS, INK):
        assert 1.05 / (luminance(colour) + 0.05) >= 3


def test_forty_labels_have_forty_styles() -> None:
    assert len({(style_of(rank).colour, style_of(rank).shape) for rank in range(42)}) == 42


def test_points_of_a_map_lie_on_it_and_its_signs_do_not_overlap() -> None:
    rng = np.random.default_rng(0)
    groups = [Group(f"type {i}", rng.normal(size=(50, 2)), style_of(i), str(i + 1)) for i in range(45)]
    parsed = parse_page(markup(cell_map(groups, "a map", rng.normal(size=(200, 2)))))
    (canvas,) = parsed.all("svg", class_="map")
    assert len(canvas.all("path")) == 46
    first = canvas.all("path")[0].attributes["d"]
    places = np.array([point.removesuffix("h0").split() for point in first.split("M")[1:]], dtype=int)
    assert places.shape == (200, 2)
    assert places.min() >= 0
    assert places.max() <= 1000
    signs = canvas.all("text")
    assert [sign.text for sign in signs] == [str(i + 1) for i in range(45)]
    at = np.array([[int(sign.attributes[axis]) for axis in "xy"] for sign in signs])
    apart = np.linalg.norm(at[:, None] - at, axis=2) + 1e9 * np.eye(45)
    assert apart.min() > 20
    names = [item.text for item in parsed.all("li")]
    assert names[44] == "45 type 44"


def test_a_histogram_and_curves_are_in_proportion() -> None:
    parsed = parse_page(markup(histogram(np.array([0, 10, 5, 1]), Axis("x", 0, 1), "n", "counts")))
    heights = [float(bar.attributes["height"]) for bar in parsed.all("rect")]
    assert len(heights) == 3
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)
    line = markup(curves([Curve("a", [0, 1, 2, 3], [1, float("nan"), 3, 2])], Axis("x", 0, 3), Axis("y", 1, 3), "t"))
    points = parse_page(line).all("polyline")[0].attributes["points"].split()
    heights = [float(point.split(",")[1]) for point in points]
    assert len(points) == 3
    assert heights[0] - heights[2] == pytest.approx((heights[0] - heights[1]) / 2, abs=0.2)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 1e-7), (900, 1300), (-3, 40), (0, 123456), (0.2, 0.21)])
def test_an_axis_has_a_few_round_ticks_within(low: float, high: float) -> None:
    ticks = Axis("", low, high).ticks()
    assert 2 <= len(ticks) <= 7
    assert min(ticks) >= low - 1e-9
    assert max(ticks) <= high * (1 + 1e-9)


def test_papers_are_those_of_the_citation_file() -> None:
    cited = yaml.safe_load((Path(__file__).parents[3] / "CITATION.cff").read_text())["references"]
    for paper, entry in zip(PAPERS, cited, strict=True):
        assert (paper.title, paper.journal, paper.year, paper.doi) == (
            entry["title"],
            entry["journal"],
            entry["year"],
            entry["doi"],
        )
        assert paper.authors.split(", ") == [author["family-names"] for author in entry["authors"]]
