"""The checks that arguments and options share: what passes, what comes of it, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from totalanvi.training import checks
from totalanvi.training.errors import ArgumentError, RegistrationError
from totalanvi.training.option_checks import require_range, require_whole


@pytest.mark.parametrize(
    ("check", "value", "plain"),
    [
        (lambda v: checks.as_number("x", v, 0, 1), 0, 0.0),
        (lambda v: checks.as_number("x", v, 0, 1), np.float32(1), 1.0),
        (lambda v: checks.as_number("x", v, above=0), 1e300, 1e300),
        (lambda v: checks.as_whole("x", v, 1), 10.0, 10),
        (lambda v: checks.as_whole("x", v, 1), np.int8(3), 3),
        (lambda v: checks.as_names("x", v, "names"), np.array(["a", "b"]), ["a", "b"]),
        (lambda v: checks.as_names("x", v, "names"), (), []),
        (lambda v: checks.as_path("x", v), "here", Path("here")),
        (lambda v: checks.as_choice("x", v, ("a", "b")), "b", "b"),
        (checks.as_seed, 2**63 - 1, 2**63 - 1),
    ],
)
def test_what_passes_comes_out_plain(check: Callable[[Any], Any], value: Any, plain: Any) -> None:
    found = check(value)
    assert found == plain
    assert type(found) is type(plain)


@pytest.mark.parametrize("value", [0, -1e-9, float("inf"), float("nan"), None, "1", True, [1], np.ones(2), 1 + 0j])
def test_what_is_no_number_above_0(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"x: expected a number above 0, found .*; 2 is usual"):
        checks.as_number("x", value, above=0, cure="2 is usual")


@pytest.mark.parametrize("value", [1, 1.0, -0.1])
def test_limits_that_do_not_count(value: float) -> None:
    with pytest.raises(ArgumentError, match="x: expected a number above 0 and below 1, found"):
        checks.as_number("x", value, above=0, below=1)


@pytest.mark.parametrize("value", [0, 2.5, float("inf"), float("nan"), None, "2", True, [1], np.ones(2)])
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(ArgumentError, match="x: expected a whole number of at least 1, found"):
        checks.as_whole("x", value, 1)


@pytest.mark.parametrize("value", [-1, 2**63, 0.5])
def test_what_is_no_seed(value: Any) -> None:
    with pytest.raises(ArgumentError, match="seed: expected a whole number of at least 0 and at most 9223"):
        checks.as_seed(value)


@pytest.mark.parametrize("value", ["no", "", 0, 1, None, np.array([True])])
def test_what_is_neither_true_nor_false(value: Any) -> None:
    checks.require_flags(x=np.bool_(True), y=False)
    with pytest.raises(ArgumentError, match="y: expected True or False, found"):
        checks.require_flags(x=True, y=value)


@pytest.mark.parametrize(("value", "cure"), [("CD4", r"give \['CD4'\]"), (5, "put them into a list"), (None, "put")])
def test_what_are_no_names(value: Any, cure: str) -> None:
    with pytest.raises(ArgumentError, match=f"x: expected a list of genes, found .*; {cure}"):
        checks.as_names("x", value, "genes")


def test_what_is_no_text_and_no_path() -> None:
    checks.require_texts(x=None, y="text")
    with pytest.raises(ArgumentError, match=r"y: expected a name, found \['text'\]"):
        checks.require_texts(x="text", y=["text"])
    with pytest.raises(ArgumentError, match="x: expected a path, found 5; give one"):
        checks.as_path("x", 5)


def test_another_type() -> None:
    checks.require_type("x", 5, (int, str), "give one")
    with pytest.raises(RegistrationError, match="x: expected int or str, found list; give one"):
        checks.require_type("x", [], (int, str), "give one", RegistrationError)


@pytest.mark.parametrize("function", [5, "f", lambda: 0, lambda a: a, lambda a, b, c: a, lambda a, *, b: a])
def test_functions_that_do_not_take_two(function: Any) -> None:
    with pytest.raises(ArgumentError, match=r"x: expected a function of two texts, found .*; give one that takes"):
        checks.require_function("x", function, 2, "two texts")


@pytest.mark.parametrize("function", [max, np.add, lambda a, b: a, lambda *a: a, lambda a, b, c=0: a, dict.get])
def test_functions_that_take_two(function: Any) -> None:
    checks.require_function("x", function, 2, "two texts")


@dataclass(frozen=True)
class _Options:
    size: float = 1
    most: float | None = None
    least: float | None = 1


def test_none_is_an_option_only_where_a_type_has_it() -> None:
    require_whole(_Options(size=2.0, least=None), ("size", "most", "least"), 1)
    require_range(_Options(most=float("inf")), ("most",), 1)
    with pytest.raises(ArgumentError, match="size: expected a whole number of at least 1, found None"):
        require_whole(_Options(size=None), ("size", "most"), 1)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="most: expected a number of at least 1 and at most 9, found inf"):
        require_range(_Options(most=float("inf")), ("most",), 1, 9)
