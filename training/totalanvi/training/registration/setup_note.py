"""The note that ``setup_anndata`` and ``setup_mudata`` leave on a data object: where its parts are.

It is plain JSON in ``uns``, so that it survives copying, subsetting and writing to a file. Nothing else is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from anndata import AnnData
from mudata import MuData

from totalanvi.training.checks import require_texts, require_type
from totalanvi.training.errors import RegistrationError

__all__ = [
    "COUNT_ARGUMENTS",
    "Data",
    "Setup",
    "is_set_up",
    "noted",
    "read_setup",
    "require_kind",
    "require_set_up_alike",
    "write_setup",
]

Data: TypeAlias = AnnData | MuData

_NOTE = "_totalanvi_setup"
_MAY_DIFFER = ("kind", "labels_key", "unlabeled")
"""A query's labels are never needed, and one data object often serves a TOTALVI and a TOTALANVI."""

COUNT_ARGUMENTS = ("rna_layer", "protein_layer")
"""The arguments of registration that say where counts are. Nothing said means ``X``; of others, that there is none."""


@dataclass(frozen=True)
class Setup:
    """Where the parts of a reference are; the arguments of ``setup_anndata`` and ``setup_mudata``.

    Raises
    ------
    ArgumentError
        For a name of a column that is no text.
    """

    kind: str
    """``"anndata"`` or ``"mudata"``."""
    rna: str | None = None
    """Modality of the RNA (MuData)."""
    proteins: str | None = None
    """Key in ``obsm`` (AnnData) or modality (MuData) of the protein counts."""
    rna_layer: str | None = None
    protein_layer: str | None = None
    protein_names_uns_key: str | None = None
    batch_key: str | None = None
    panel_key: str | None = None
    labels_key: str | None = None
    unlabeled: tuple[str, ...] = ()
    size_factor_key: str | None = None
    categorical_covariate_keys: tuple[str, ...] = ()
    continuous_covariate_keys: tuple[str, ...] = ()
    modalities: Mapping[str, str] = field(default_factory=dict)
    """Modality whose ``obs`` holds the columns of an argument, by the argument's name (MuData)."""

    def __post_init__(self) -> None:
        keys = ("batch_key", "panel_key", "labels_key", "size_factor_key")
        require_texts(**{key: getattr(self, key) for key in keys})


def write_setup(data: AnnData | MuData, setup: Setup) -> None:
    """Note on ``data`` how it is registered."""
    data.uns[_NOTE] = json.dumps(asdict(setup))


@contextmanager
def noted(data: AnnData | MuData, setup: Setup) -> Iterator[None]:
    """Note ``setup`` on ``data``; when what follows fails, what was noted before is there again."""
    before = data.uns.get(_NOTE)
    write_setup(data, setup)
    try:
        yield
    except BaseException:
        if before is None:
            del data.uns[_NOTE]
        else:
            data.uns[_NOTE] = before
        raise


def is_set_up(data: AnnData | MuData) -> bool:
    """Whether `write_setup` has noted anything on ``data``."""
    return _NOTE in _notes(data)


def read_setup(data: AnnData | MuData) -> Setup:
    """Read what `write_setup` noted.

    Raises
    ------
    RegistrationError
        When ``data`` was not set up.
    """
    note = _notes(data).get(_NOTE)
    if note is None:
        raise RegistrationError(
            "Expected data that was set up, found none of it noted; call setup_anndata(adata, ...) or "
            "setup_mudata(mdata, ...) on this object first."
        )
    fields: dict[str, Any] = json.loads(note)
    return Setup(**fields | {name: tuple(value) for name, value in fields.items() if isinstance(value, list)})


def _notes(data: AnnData | MuData) -> MutableMapping[str, Any]:
    require_type("adata", data, (AnnData, MuData), "give the object with the cells", RegistrationError)
    uns: MutableMapping[str, Any] = data.uns
    return uns


def require_kind(data: AnnData | MuData, kind: str) -> None:
    """Refuse a MuData where an AnnData was set up, and the other way round.

    Raises
    ------
    RegistrationError
        Naming both.
    """
    _notes(data)
    expected = MuData if kind == "mudata" else AnnData
    if not isinstance(data, expected):
        raise RegistrationError(
            f"Expected {expected.__name__}, as set up with setup_{kind}(), found {type(data).__name__}; put the cells "
            f"into {expected.__name__}, or map them through an exported bundle, which takes both."
        )


def require_set_up_alike(data: AnnData | MuData, setup: Setup) -> None:
    """Refuse data that was set up for another model; data that was not set up at all is read as ``setup`` says.

    Raises
    ------
    RegistrationError
        Naming what differs, or for another kind of object.
    """
    require_kind(data, setup.kind)
    if not is_set_up(data):
        return
    theirs, ours = json.loads(data.uns[_NOTE]), json.loads(json.dumps(asdict(setup)))
    for name, value in ours.items():
        found = theirs[name]
        both_say = name in COUNT_ARGUMENTS or (found and value)
        if found != value and both_say and name not in _MAY_DIFFER:
            raise RegistrationError(
                f"Expected data that is set up as the model's was, with {name}={value!r}, found {name}={found!r}; call "
                f"setup_{setup.kind}() on it with the model's arguments, or give a copy that is not set up."
            )
