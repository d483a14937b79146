"""What the name of an antibody's target stands for, whatever vendors and tools have put around it.

Two kinds of additions are told apart. Decorations say nothing of the target (``CD3_TotalSeqB``, ``anti-human CD3``,
``ADT_CD3``): they are taken off on both sides. A clone or a number at the end (``CD3_UCHT1``, ``CD3-1``) is taken off
on one side only, since another protein may differ in just that (``Siglec-8`` and ``Siglec-10``). Where more than one
protein of the reference remains, none is chosen.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

from totalanvi.serving.alignment.controls import control
from totalanvi.serving.alignment.matching import Found, Way

__all__ = ["ProteinNames", "protein_names", "spelling", "undecorated", "without_suffix"]

_GREEK = str.maketrans("αβγδεκλ", "abgdekl")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[\W_]+(?=\d)")
_SEPARATORS = re.compile(r"[\W_]+")

_GAP = r"[\s_.:/-]"
"""What separates a name from what is around it; brackets belong to it."""

_SPECIES = r"(?:human|mouse|rat|hu|ms|rt)"
_VENDOR = re.compile(rf"{_GAP}*total{_GAP}*seq(?:tm)?(?:{_GAP}*[a-d](?![a-z]))?{_GAP}*", re.IGNORECASE)
_PREFIX = re.compile(
    rf"(?:anti{_GAP}+{_SPECIES}(?:{_GAP}+{_SPECIES})*|anti|hu(?:ms)?(?:rt)?|ms(?:rt)?|human|mouse|adt|abseq|prot(?:ein)?"
    rf"|antibody|[a-d]0\d{{3}}|ab(?={_GAP}+cd\d)){_GAP}+(?=\w)",
    re.IGNORECASE,
)
_SUFFIX = re.compile(
    rf"{_GAP}+(?:adt|abseq|prot(?:ein)?|antibody|human|total[a-d]|[acgt]{{12,25}}){_GAP}*|\|.*\|pabo", re.IGNORECASE
)
_IN_BRACKETS = re.compile(r"(.*\w)\s*[(\[]\s*([^()\[\]]*\w[^()\[\]]*)[)\]]\s*")
_NUMBER = re.compile(r"\d{1,2}")
_CLONE = re.compile(r"(?=.*\d)[A-Za-z0-9]+(?:[-./][A-Za-z0-9]+)*")
_NO_CLONE = re.compile(r"cd\d.*|v[a-z]?\d.*|\d?d[lspr]\d.*", re.IGNORECASE)
"""Endings that look like a clone, and tell one protein from another: of complexes, of T-cell receptors, of KIRs."""
_CLUSTER = re.compile(r"cd\d+[a-z]*")


def spelling(name: str) -> str:
    """Return what a name's letters and digits are, whatever its case and what separates them.

    Digits keep apart what a separator keeps apart, for ``CD4-1`` is not ``CD41``.

    Examples
    --------
    >>> spelling("HLA-DR"), spelling("hla.dr"), spelling("TCR α/β"), spelling("CD4-1"), spelling("CD41")
    ('hladr', 'hladr', 'tcrab', 'cd4-1', 'cd41')
    """
    folded = unicodedata.normalize("NFKC", name).casefold().translate(_GREEK)
    return "-".join(_SEPARATORS.sub("", part) for part in _BETWEEN_DIGITS.split(folded))


def undecorated(name: str) -> str:
    """Take off what says nothing of the target: vendor, assay, species, barcode.

    Examples
    --------
    >>> [undecorated(name) for name in ("CD3_TotalSeqB", "anti-human CD3", "Hu.CD3", "ADT_CD3", "CD3-CTCATTGTAACTCCT")]
    ['CD3', 'CD3', 'CD3', 'CD3', 'CD3']
    >>> undecorated("CD45RA")
    'CD45RA'
    """
    plain = _VENDOR.sub(" ", unicodedata.normalize("NFKC", name.replace("®", ""))).strip()
    while True:
        shorter = plain
        if found := _PREFIX.match(shorter):
            shorter = shorter[found.end() :]
        # The longest ending that is one; something has to be left before it.
        ends = (start for start in range(1, len(shorter)) if _SUFFIX.fullmatch(shorter, start))
        shorter = shorter[: next(ends, None)]
        if shorter == plain:
            return plain
        plain = shorter


def without_suffix(name: str) -> tuple[str, ...]:
    """Return what remains without a number or a clone at the end, one for every way to see one.

    Parameters
    ----------
    name
        Undecorated.

    Examples
    --------
    >>> without_suffix("CD3-1"), without_suffix("CD4_RPA-T4"), without_suffix("CD45RA.HI100")
    (('CD3',), ('CD4',), ('CD45RA',))
    >>> without_suffix("HLA-DR"), without_suffix("CD45-RA"), without_suffix("TCR-Vd2")
    ((), (), ())
    """
    splits = ((name[: found.start()], name[found.end() :]) for found in re.finditer(r"[\W_]+", name))
    return tuple(base for base, end in splits if base and (_NUMBER.fullmatch(end) or _is_clone(base, end)))


class ProteinNames:
    """The names of a reference's proteins, ready to be looked up.

    Parameters
    ----------
    names
        As the model calls them (proteins,).

    Examples
    --------
    >>> proteins = ProteinNames(("CD3_TotalSeqB", "CD4_TotalSeqB", "CD41_TotalSeqB"))
    >>> [proteins.find(name).places for name in ("anti-human CD3", "CD4-1", "cd41", "CD4_RPA-T4")]
    [(0,), (1,), (2,), (1,)]
    >>> proteins.find("IgG2a_control").reason
    'isotype control'
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._by_name = {name: place for place, name in enumerate(names)}
        plain = [_alternatives(name) for name in names]
        self._spelled = _by_spelling([name] for name in names)
        self._plain = _by_spelling(plain)
        self._bases = _by_spelling(
            [base for name in alternatives for base in without_suffix(name) if _CLUSTER.fullmatch(spelling(base))]
            for alternatives in plain
        )

    def own_place(self, name: str) -> int | None:
        """Return the protein that the reference itself calls so."""
        return self._by_name.get(name)

    def find(self, name: str) -> Found | None:
        """Judge one name; a control is found only by the reference's own name for it."""
        if (place := self._by_name.get(name)) is not None:
            return Found((place,), "name")
        if (reason := control(undecorated(name))) is not None:
            return Found((), reason=reason)
        if places := self._spelled.get(spelling(name)):
            return _found(places, "spelling")
        plain = _alternatives(name)
        if places := _union(self._plain, plain):
            return _found(places, "decoration")
        shorter = _union(self._plain, (base for known in plain for base in without_suffix(known)))
        if places := shorter | _union(self._bases, plain):
            return _found(places, "suffix")
        return None


@lru_cache(maxsize=8)
def protein_names(names: tuple[str, ...]) -> ProteinNames:
    """Return a `ProteinNames`, kept for the next query to the same reference."""
    return ProteinNames(names)


def _alternatives(name: str) -> tuple[str, ...]:
    """Return the undecorated name, and where it gives another in brackets, as in ``CD279 (PD-1)``, each alone."""
    plain = undecorated(name)
    found = _IN_BRACKETS.fullmatch(plain)
    return (plain,) if found is None else (plain, undecorated(found[1]), undecorated(found[2]))


def _is_clone(base: str, end: str) -> bool:
    if not _CLONE.fullmatch(end) or _NO_CLONE.fullmatch(end):
        return False
    if _CLUSTER.fullmatch(spelling(base)):
        return len(end) >= 3
    return len(end) >= 4 and not end.isdigit()


def _by_spelling(names: Iterable[Iterable[str]]) -> dict[str, set[int]]:
    places: dict[str, set[int]] = defaultdict(set)
    for place, alternatives in enumerate(names):
        for name in alternatives:
            if key := spelling(name):
                places[key].add(place)
    return dict(places)


def _union(index: dict[str, set[int]], names: Iterable[str]) -> set[int]:
    return set().union(*(index.get(spelling(name), ()) for name in names))


def _found(places: set[int], way: Way) -> Found:
    return Found(tuple(sorted(places)), way)
