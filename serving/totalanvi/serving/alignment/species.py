"""Of which species genes are, as far as their names tell: the prefix of Ensembl ids, or how symbols are capitalised.

Human symbols are capitals (``CD3E``), those of mouse and rat begin with one (``Cd3e``): the same letters, another gene.

References
----------
HGNC, guidelines for human gene nomenclature, 2020; MGI, guidelines for nomenclature of genes; Ensembl, stable IDs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

__all__ = ["Capitals", "capitals_of", "foreign_species", "is_ensembl_id", "names_another_species", "without_version"]

Capitals = Literal["all", "first", "none"]
"""Which letters of a symbol are capitals; mixtures, such as ``C9orf72``, tell nothing."""

_ENSEMBL_ID = re.compile(r"(ENS[A-Z]*G)(\d{6,})(\.\d+)?(_PAR_Y)?")
_SPECIES = {
    "ENSG": "human",
    "ENSMUSG": "mouse",
    "ENSRNOG": "rat",
    "ENSMMUG": "macaque",
    "ENSMFAG": "crab-eating macaque",
    "ENSPTRG": "chimpanzee",
    "ENSSSCG": "pig",
    "ENSBTAG": "cow",
    "ENSCAFG": "dog",
    "ENSGALG": "chicken",
    "ENSDARG": "zebrafish",
}
_RODENTS = ("ENSMUSG", "ENSRNOG")
_MITOCHONDRIAL = re.compile(r"mt-", re.IGNORECASE)
_OPEN_READING_FRAME = re.compile(r"C[\dXY]+orf\d+", re.IGNORECASE)
"""Human symbols with small letters, whose capitals therefore tell nothing."""
_ENOUGH_IDS = 10


def is_ensembl_id(name: str) -> bool:
    """Tell whether a name is the Ensembl id of a gene, with or without a version."""
    return _ENSEMBL_ID.fullmatch(name) is not None


def without_version(name: str) -> str:
    """Return an Ensembl id without its version; any other name as it is.

    Examples
    --------
    >>> without_version("ENSG00000198851.10"), without_version("AL645608.8")
    ('ENSG00000198851', 'AL645608.8')
    """
    found = _ENSEMBL_ID.fullmatch(name)
    return name if found is None else found[1] + found[2]


def capitals_of(symbol: str) -> Capitals | None:
    """Tell how a symbol is capitalised; None when it is a mixture, or has too few letters to tell.

    Examples
    --------
    >>> [capitals_of(symbol) for symbol in ("CD3E", "Cd3e", "cd3e", "mt-Co1", "C9orf72", "F8")]
    ['all', 'first', 'none', 'first', None, None]
    """
    letters = "".join(filter(str.isalpha, _MITOCHONDRIAL.sub("", symbol, count=1)))
    if len(letters) < 2 or _OPEN_READING_FRAME.fullmatch(symbol):
        return None
    if letters.isupper():
        return "all"
    if letters.islower():
        return "none"
    return "first" if letters[0].isupper() and letters[1:].islower() else None


def names_another_species(symbol: str, known: str) -> bool:
    """Tell whether two symbols of the same letters are capitalised as those of different species.

    Examples
    --------
    >>> names_another_species("Cd3e", "CD3E"), names_another_species("cd3e", "CD3E")
    (True, False)
    """
    return {capitals_of(symbol), capitals_of(known)} == {"all", "first"}


def foreign_species(
    namings: Sequence[Sequence[str]], reference_ids: Sequence[str | None], reference_names: Sequence[str]
) -> tuple[str, str] | None:
    """Return the query's species and the reference's where Ensembl ids say that they differ.

    Parameters
    ----------
    namings
        Every way in which the query names its genes. What the first says goes before what others do, for these may be
        orthologs.
    reference_ids
        The reference's Ensembl ids, as far as known (genes,).
    reference_names
        Its names (genes,): capitals tell human from rodent where it has no ids.
    """
    prefixes = [_prefix(names) for names in namings]
    known = list(filter(None, prefixes[:1])) or list(filter(None, prefixes))
    if not known:
        return None
    query = known[0]
    reference = _prefix([name for name in reference_ids if name is not None])
    if reference is not None:
        return None if reference in known else (_species(query), _species(reference))
    usual = Counter(filter(None, map(capitals_of, reference_names))).most_common(1)
    capitals = usual[0][0] if usual else None
    if capitals == "all" and query in _RODENTS:
        return _species(query), "human, by its symbols in capitals"
    if capitals == "first" and query == "ENSG":
        return _species(query), "mouse or rat, by its symbols with one capital"
    return None


def _prefix(names: Sequence[str]) -> str | None:
    """Return the prefix that most Ensembl ids among the names have, when there are enough of them to tell."""
    found = Counter(id_[1] for id_ in map(_ENSEMBL_ID.fullmatch, names) if id_ is not None)
    if not found or (found.total() < _ENOUGH_IDS and 2 * found.total() < len(names)):
        return None
    return found.most_common(1)[0][0]


def _species(prefix: str) -> str:
    return _SPECIES.get(prefix, f"the species of Ensembl ids {prefix}…")
