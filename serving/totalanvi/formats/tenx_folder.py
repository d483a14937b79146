"""Folders of a 10x matrix, each of whose three files may be compressed.

They are ``matrix.mtx``, ``barcodes.tsv`` and ``features.tsv``, which was ``genes.tsv`` until Cell Ranger 3.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from totalanvi.formats.errors import FormatError
from totalanvi.formats.stores import MATRIX_FILES
from totalanvi.formats.tenx import GENE, TenxFeatures, require_barcodes

__all__ = ["read_tenx_folder"]

_BARCODES = ("barcodes.tsv.gz", "barcodes.tsv")
_FEATURES = ("features.tsv.gz", "features.tsv", "genes.tsv.gz", "genes.tsv")
_HEADER = ["%%matrixmarket", "matrix", "coordinate"]
_SHORTEST_ENTRY = 5
"""Bytes of the last line of a matrix, ``1 1 1``: no file holds more entries than this allows."""
_BEST_COMPRESSION = 1032
"""Most bytes that one byte of DEFLATE can stand for."""
_LONGEST_LINE = 1 << 16
_CHUNK_LINES = 1 << 20
_ENTRY = {0: np.int64, 1: np.int64, 2: np.float64}
"""A line of a matrix: feature and cell, counted from 1, and value."""


def read_tenx_folder(folder: Path) -> tuple[pd.Index, TenxFeatures, sparse.csr_matrix]:
    """Read a 10x matrix whole: its text holds nowhere where a cell begins.

    Parameters
    ----------
    folder
        With one file of each kind.

    Returns
    -------
    cells, features, counts
        Barcodes (cells,), features (features,) and values (cells, features), as they are stored.

    Raises
    ------
    FormatError
        When a file is missing, cut short or something else, or the files do not fit each other.
    """
    matrix, barcodes, features = (_only(folder, names) for names in (MATRIX_FILES, _BARCODES, _FEATURES))
    n_features, n_cells, n_entries = _sizes(matrix)
    cells = require_barcodes(_read_barcodes(barcodes, n_cells), n_cells)
    described = _read_features(features, n_features)
    if len(described) != n_features:
        raise FormatError(
            f"Expected {n_features} features in {features.name!r}, as {matrix.name!r} says; found {len(described)}. "
            f"Copy the folder again, from one run."
        )
    return cells, described, _read_entries(matrix, (n_cells, n_features), n_entries)


def _read_entries(matrix: Path, shape: tuple[int, int], n_entries: int) -> sparse.csr_matrix:
    """Read the values of a matrix, (cells, features), as many as its head claims.

    Not by `scipy.io.mmread`, which ends the process where the lines of a damaged file are not what its head says.
    """
    cells, features, values = [np.empty(0, np.int32)], [np.empty(0, np.int32)], [np.empty(0)]
    with _text(matrix) as lines:
        next(_below_head(lines))
        while text := "".join(islice(lines, _CHUNK_LINES)):
            table = pd.read_csv(StringIO(text), sep=r"\s+", header=None, dtype=_ENTRY)
            if table.shape[1] != len(_ENTRY):
                raise ValueError(f"{table.shape[1]} words in a line")
            for place, kind, n_most in ((0, "feature", shape[1]), (1, "cell", shape[0])):
                if table[place].min() < 1 or table[place].max() > n_most:
                    raise ValueError(f"{kind}s from {table[place].min()} to {table[place].max()}, of {n_most}")
            features.append(table[0].to_numpy(np.int32) - 1)
            cells.append(table[1].to_numpy(np.int32) - 1)
            values.append(table[2].to_numpy())
    counts = np.concatenate(values)
    if len(counts) != n_entries:
        raise FormatError(
            f"Expected {n_entries} values in {matrix.name!r}, as its head says; found {len(counts)}: it is truncated "
            f"or damaged. Copy the folder again and compare sizes."
        )
    return sparse.csr_matrix((counts, (np.concatenate(cells), np.concatenate(features))), shape=shape)


def _only(folder: Path, names: tuple[str, ...]) -> Path:
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) == 1:
        return found[0]
    there = " and ".join(repr(path.name) for path in found) or "none of these"
    raise FormatError(
        f"Expected one of {', '.join(names)} in {str(folder)!r}; found {there}. "
        f"{'Keep the one that belongs to the matrix.' if found else 'Copy the whole folder of the run.'}"
    )


def _sizes(matrix: Path) -> tuple[int, int, int]:
    """Read what a matrix says of itself, and refuse what its file cannot hold before room is made for it."""
    with _text(matrix) as lines:
        banner = next(lines, "").lower().split()
        if banner[:3] != _HEADER or banner[3:] not in (["integer", "general"], ["real", "general"]):
            raise FormatError(
                f"Expected '%%MatrixMarket matrix coordinate integer general' at the head of {matrix.name!r}; found "
                f"{' '.join(banner)[:80]!r}. Write it with scipy.io.mmwrite, or copy the folder again."
            )
        words = next(_below_head(lines), "").split()
    if len(words) != 3 or not all(word.isdecimal() for word in words):
        raise FormatError(
            f"Expected the numbers of features, cells and values in {matrix.name!r}; found {' '.join(words)[:80]!r}. "
            f"Copy the folder again."
        )
    n_features, n_cells, n_entries = (int(word) for word in words)
    n_bytes = matrix.stat().st_size * (_BEST_COMPRESSION if matrix.suffix == ".gz" else 1)
    if n_entries > min(n_features * n_cells, n_bytes // _SHORTEST_ENTRY):
        raise FormatError(
            f"Expected as many values in {matrix.name!r} as fit into {n_features} features × {n_cells} cells and into "
            f"the file; found that it claims {n_entries}. Copy the folder again."
        )
    return n_features, n_cells, n_entries


def _below_head(lines: Iterator[str]) -> Iterator[str]:
    """Leave out the comments that come before the sizes of a matrix."""
    return (line for line in lines if line.strip() and not line.startswith("%"))


def _read_features(path: Path, n_features: int) -> TenxFeatures:
    with _text(path) as lines:
        rows = [line.rstrip("\r\n").split("\t") for line in islice(lines, n_features + 1)]
    width = min((len(row) for row in rows), default=0)
    if rows and width < 2:
        raise FormatError(
            f"Expected an id, a name and a type for each feature in {path.name!r}, separated by tabs; found a line "
            f"with {width} of them. Copy the folder again."
        )
    ids, names = (np.array([row[place] for row in rows], dtype=object) for place in (0, 1))
    # Until Cell Ranger 3 there were genes only, and no third column.
    types = np.array([row[2] if width > 2 else GENE for row in rows], dtype=object)
    return TenxFeatures(ids, names, types)


def _read_barcodes(path: Path, n_cells: int) -> npt.NDArray[np.object_]:
    """Read the first column, and no more than one line beyond what there should be."""
    with _text(path) as lines:
        barcodes = [line.rstrip("\r\n").split("\t")[0] for line in islice(lines, n_cells + 1)]
    return np.array(barcodes, dtype=object)


@contextmanager
def _text(path: Path) -> Iterator[Iterator[str]]:
    """Give the lines of a text file, compressed or not, none of them without end."""

    def lines(stream: IO[str]) -> Iterator[str]:
        while line := stream.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:
                raise FormatError(
                    f"Expected lines of a table in {path.name!r}; found one of {_LONGEST_LINE} characters or more. "
                    f"Copy the folder again."
                )
            yield line

    opened = gzip.open if path.suffix == ".gz" else open
    with _whole(path), opened(path, "rt", encoding="utf-8") as stream:
        yield lines(stream)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Say of a file that is cut short, or no text at all, that it is."""
    try:
        yield
    except FormatError:
        raise
    except (EOFError, OSError, ValueError, OverflowError, RuntimeError) as error:
        raise FormatError(
            f"Expected a whole {path.name!r}; found that it is truncated or damaged ({error}). Copy it again and "
            f"compare sizes."
        ) from error
