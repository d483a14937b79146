"""What the name of a gene stands for: a symbol or an Ensembl id, in the reference's capitals or others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

from totalanvi.serving.alignment.matching import Found, unambiguous
from totalanvi.serving.alignment.species import is_ensembl_id, names_another_species, without_version

__all__ = ["GeneNames", "gene_names"]


class GeneNames:
    """The names of a reference's genes, ready to be looked up.

    Parameters
    ----------
    names
        As the model calls them (genes,).
    symbols, ensembl_ids
        What else the reference calls them, where it knows (genes,).

    Attributes
    ----------
    names : tuple of str
        As given.
    ensembl_ids : tuple of str or None
        As given, and those that are names (genes,).

    Examples
    --------
    >>> genes = GeneNames(("CD3E", "C9orf72"), None, ("ENSG00000198851", None))
    >>> genes.find("ENSG00000198851.4")
    Found(places=(0,), way='ensembl', reason=None)
    >>> genes.find("C9ORF72")
    Found(places=(1,), way='spelling', reason=None)
    >>> genes.find("Cd3e"), genes.of_another_species("Cd3e")
    (None, 0)
    """

    def __init__(
        self,
        names: Sequence[str],
        symbols: Sequence[str | None] | None = None,
        ensembl_ids: Sequence[str | None] | None = None,
    ) -> None:
        nothing: Sequence[str | None] = (None,) * len(names)
        symbols = symbols or nothing
        self.names = tuple(names)
        self.ensembl_ids = tuple(
            known or (name if is_ensembl_id(name) else None)
            for known, name in zip(ensembl_ids or nothing, names, strict=True)
        )
        self._by_name = {name: place for place, name in enumerate(names)}
        self._by_symbol = unambiguous(symbols)
        self._by_id = unambiguous([None if name is None else without_version(name) for name in self.ensembl_ids])
        self._spelled: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for place, (name, symbol) in enumerate(zip(names, symbols, strict=True)):
            for known in (name,) if symbol in (None, name) else (name, symbol):
                self._spelled[str(known).casefold()].append((place, str(known)))

    def find(self, name: str) -> Found | None:
        """Judge one name; a symbol that is capitalised as another species' stands for nothing here."""
        if (place := self._by_name.get(name)) is not None:
            return Found((place,), "name")
        if (place := self._by_symbol.get(name)) is not None:
            return Found((place,), "symbol")
        if (place := self._by_id.get(without_version(name))) is not None:
            return Found((place,), "ensembl")
        places = {
            place for place, known in self._spelled.get(name.casefold(), ()) if not names_another_species(name, known)
        }
        return Found(tuple(sorted(places)), "spelling") if places else None

    def own_place(self, name: str) -> int | None:
        """Return the gene that the reference itself calls so, by whichever of its names."""
        found = self.find(name)
        return found.places[0] if found is not None and found.way != "spelling" else None

    def of_another_species(self, name: str) -> int | None:
        """Return the gene that has the same letters in another species' capitals; None when there is no such."""
        spelled = self._spelled.get(name.casefold(), ()) if name not in self._by_name else ()
        return next((place for place, known in spelled if names_another_species(name, known)), None)


@lru_cache(maxsize=8)
def gene_names(
    names: tuple[str, ...], symbols: tuple[str | None, ...] | None, ensembl_ids: tuple[str | None, ...] | None
) -> GeneNames:
    """Return a `GeneNames`, kept for the next query to the same reference."""
    return GeneNames(names, symbols, ensembl_ids)
