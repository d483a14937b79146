"""Files of cells as nobody should send them: bytes that are altered, and HDF5 objects that lie about what they hold."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import mudata
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from alterations import altered
from totalanvi.formats.mudata_options import not_pulling
from totalanvi.serving.features import ReferenceFeatures

__all__ = ["altered_file", "whole_files"]

N_CELLS = 12
NON_ZERO = 0.02
PROTEINS = "protein_expression"
MARKS = (b"\x89HDF", b"OHDR", b"TREE", b"SNOD", b"HEAP", b"GCOL", b"FRHP", b"FADB", b"BTHD", b"OCHK")
"""How the structures of an HDF5 file begin."""
MARKED_BYTES = 64
"""What follows such a beginning and is altered with it."""
BYTES_SHARE, MARKS_SHARE = 0.3, 0.3
"""Of files that are altered anywhere, and near a mark; the others are altered as objects."""
REMOVED_SHARE = 0.3
HUGE = (2**31, 2**33, 2**40, 2**62)


def whole_files(features: ReferenceFeatures, seed: int) -> dict[str, bytes]:
    """Return small files that a reference maps, by their kind."""
    rng = np.random.default_rng(seed)
    names = [f"cell{place}" for place in range(N_CELLS)]
    rna = sp.random(N_CELLS, len(features.genes), NON_ZERO, "csr", rng=rng, dtype=np.float32)
    rna.data = np.ceil(9 * rna.data)
    proteins = rng.integers(0, 50, (N_CELLS, len(features.proteins))).astype(np.float32)
    cells = ad.AnnData(rna, pd.DataFrame(index=names), pd.DataFrame(index=list(features.genes)))
    cells.obsm[PROTEINS] = pd.DataFrame(proteins, index=names, columns=list(features.proteins))
    by_column, dense = cells.copy(), cells.copy()
    by_column.X, dense.X = sp.csc_matrix(rna), rna.toarray()
    panel = ad.AnnData(proteins, cells.obs.copy(), pd.DataFrame(index=list(features.proteins)))
    with not_pulling():
        both = mudata.MuData({"rna": ad.AnnData(rna, cells.obs.copy(), cells.var.copy()), "prot": panel})
    return {
        "h5ad": _stored(cells.write_h5ad),
        "h5ad by column": _stored(by_column.write_h5ad),
        "dense h5ad": _stored(dense.write_h5ad),
        "compressed h5ad": _stored(lambda place: cells.write_h5ad(place, compression="gzip")),
        "h5mu": _stored(both.write_h5mu),
        "10x h5": _stored(lambda place: _write_tenx(place, cells, proteins)),
    }


def altered_file(files: dict[str, bytes], draw: random.Random) -> tuple[str, bytes]:
    """Return one of some files, altered, and what it was and what was done to it."""
    kind = draw.choice(list(files))
    how = draw.random()
    if how < BYTES_SHARE:
        return f"{kind}, bytes", altered(files[kind], draw)
    if how < BYTES_SHARE + MARKS_SHARE:
        return f"{kind}, structures", _altered_near_marks(files[kind], draw)
    change = draw.choice(_CHANGES)
    return f"{kind},{change.__name__.replace('_', ' ')}", _changed(files[kind], change, draw)


def _stored(write: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "query")
        write(place)
        return place.read_bytes()


def _write_tenx(place: Path, cells: ad.AnnData, proteins: npt.NDArray[np.float32]) -> None:
    counts = sp.csr_matrix(sp.hstack([cells.X, sp.csr_matrix(proteins)])).astype(np.int32)
    names = [*cells.var_names, *cells.obsm[PROTEINS].columns]
    types = ["Gene Expression"] * cells.n_vars + ["Antibody Capture"] * proteins.shape[1]
    with h5py.File(place, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(list(cells.obs_names), dtype="S")
        group["shape"] = np.array(counts.shape[::-1], dtype=np.int32)
        for name, values in (("data", counts.data), ("indices", counts.indices), ("indptr", counts.indptr)):
            group[name] = values
        for name, texts in (("id", names), ("name", names), ("feature_type", types)):
            group[f"features/{name}"] = np.array(texts, dtype="S")


def _altered_near_marks(content: bytes, draw: random.Random) -> bytes:
    """Alter what leads to the data: most bytes of a file are data, in which little can go wrong."""
    mark = draw.choice([mark for mark in MARKS if mark in content])
    places = []
    place = content.find(mark)
    while place >= 0:
        places.append(place)
        place = content.find(mark, place + 1)
    start = draw.choice(places)
    end = start + MARKED_BYTES
    return content[:start] + altered(content[start:end], draw) + content[end:]


def _changed(content: bytes, change: Callable[[h5py.File, random.Random], None], draw: random.Random) -> bytes:
    place = BytesIO(content)
    with h5py.File(place, "r+") as file:
        change(file, draw)
    return place.getvalue()


def _objects(file: h5py.File, kind: type[Any]) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, found: names.append(name) if isinstance(found, kind) else None)
    return names


def _replaced(file: h5py.File, draw: random.Random, make: Callable[[str, Any], object]) -> None:
    """Put something else in the place of a data set, which keeps its attributes."""
    name = draw.choice(_objects(file, h5py.Dataset))
    attributes, values = dict(file[name].attrs), file[name][()]
    del file[name]
    make(name, values)
    if name in file:
        for key, value in attributes.items():
            file[name].attrs[key] = value


def _another_type(file: h5py.File, draw: random.Random) -> None:
    types: tuple[Any, ...] = ("S3", "i1", "u8", "f2", "f8", "c16", "?", "V7", h5py.string_dtype(), h5py.ref_dtype)
    types += (h5py.vlen_dtype(np.int32), np.dtype([("a", "i4"), ("b", "S2")]), np.dtype(("f4", (3,))))
    found = draw.choice(types)
    _replaced(file, draw, lambda name, values: file.create_dataset(name, np.shape(values), found))


def _another_shape(file: h5py.File, draw: random.Random) -> None:
    shape = draw.choice(((), (0,), (1,), (7,), (N_CELLS, 0), (0, 3), (2, 2, 2), (1,) * 32))
    kind = draw.choice(("f4", "i4", h5py.string_dtype()))
    _replaced(file, draw, lambda name, _: file.create_dataset(name, shape, kind))


def _huge_and_never_written(file: h5py.File, draw: random.Random) -> None:
    size, kind = draw.choice(HUGE), draw.choice(("f4", "i8", h5py.string_dtype()))
    chunk = draw.choice((1, 1024, 2**20))
    _replaced(file, draw, lambda name, _: file.create_dataset(name, (size,), kind, chunks=(chunk,), compression="gzip"))


def _pieces_missing(file: h5py.File, draw: random.Random) -> None:
    def make(name: str, values: Any) -> None:
        values = np.atleast_1d(np.asarray(values))
        found = file.create_dataset(name, values.shape, "f4", chunks=(1,) * values.ndim, compression="gzip")
        if values.dtype.kind in "if" and values.size:
            found[tuple(0 for _ in values.shape)] = values.flat[0]

    _replaced(file, draw, make)


def _other_numbers(file: h5py.File, draw: random.Random) -> None:
    numbers = (-1, 2**31, -(2**63), 0.5, float("nan"), float("inf"), 2**31 - 1)

    def make(name: str, values: Any) -> None:
        found = np.atleast_1d(np.asarray(values)).copy()
        if found.dtype.kind not in "if" or not found.size:
            file[name] = values
            return
        found = found.astype(draw.choice(("f4", "f8", "i4", "i8"))) if draw.random() < 0.5 else found
        with np.errstate(all="ignore"):
            for place in range(draw.choice((1, 3, found.size))):
                found.flat[place % found.size] = np.array(draw.choice(numbers), "f8").astype(found.dtype)
        file[name] = found

    _replaced(file, draw, make)


def _something_removed(file: h5py.File, draw: random.Random) -> None:
    del file[draw.choice([*_objects(file, h5py.Dataset), *_objects(file, h5py.Group)])]


def _a_link_instead(file: h5py.File, draw: random.Random) -> None:
    names = [*_objects(file, h5py.Dataset), *_objects(file, h5py.Group)]
    name, other = draw.choice(names), draw.choice([*names, "/", "nowhere"])
    links = (
        h5py.SoftLink(name),
        h5py.SoftLink(other),
        h5py.SoftLink(f"{name}/x"),
        h5py.ExternalLink("/etc/passwd", "/"),
    )
    del file[name]
    file[name] = draw.choice(links)


def _a_group_within_itself(file: h5py.File, draw: random.Random) -> None:
    name = draw.choice(_objects(file, h5py.Group))
    file[name]["again"] = file[draw.choice((name, "/"))]


def _a_group_for_data(file: h5py.File, draw: random.Random) -> None:
    _replaced(file, draw, lambda name, _: file.create_group(name))


def _other_attributes(file: h5py.File, draw: random.Random) -> None:
    odd: tuple[Any, ...] = (
        "",
        "csr_matrix",
        "csc_matrix",
        "dataframe",
        "array",
        "\x01",
        -1,
        2**62,
        0.5,
        [],
        [2**62, 2**62],
    )
    odd += ([-1, 5], [0, 0], h5py.Empty("f4"), np.zeros(2000, "f4"), b"\xff\xfe", ["a"] * 50)
    names = [
        name for name in ["/", *_objects(file, h5py.Group), *_objects(file, h5py.Dataset)] if len(file[name].attrs)
    ]
    if not names:
        return
    attributes = file[draw.choice(names)].attrs
    key = draw.choice(list(attributes))
    if draw.random() < REMOVED_SHARE:
        del attributes[key]
    else:
        attributes[key] = draw.choice(odd)


_CHANGES: tuple[Callable[[h5py.File, random.Random], None], ...] = (
    _another_type,
    _another_shape,
    _huge_and_never_written,
    _pieces_missing,
    _other_numbers,
    _something_removed,
    _a_link_instead,
    _a_group_within_itself,
    _a_group_for_data,
    _other_attributes,
)
