"""Pickles of plain values: read as pickle reads them, or refused."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from totalanvi.training import CheckpointError
from totalanvi.training.checkpoints.plain_pickle import read_plain_pickle

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=plain_values, protocol=st.integers(2, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_read_as_pickle_reads_them(value: Any, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    assert repr(read_plain_pickle(content)) == repr(pickle.loads(content))


@given(content=st.binary(max_size=60))
def test_damage_is_refused(content: bytes) -> None:
    try:
        value = read_plain_pickle(content)
    except CheckpointError:
        return
    assert isinstance(value, bool | int | float | str | list | tuple | dict | None)


@given(value=plain_values, data=st.data())
def test_a_cut_pickle_is_refused(value: Any, data: st.DataObject) -> None:
    content = pickle.dumps(value)
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(CheckpointError):
        read_plain_pickle(content[:cut])
