"""What a bundle calls the reference's genes: their names, and whatever else names one of them alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from totalanvi.serving.alignment.species import is_ensembl_id
from totalanvi.serving.bundles.manifest import Genes
from totalanvi.training.registration.registry import Registry

__all__ = ["served_genes"]


def served_genes(registry: Registry) -> Genes:
    """Return the genes of a registry, with their Ensembl ids and symbols as far as these can be trusted.

    Parameters
    ----------
    registry
        Of the model that is exported.
    """
    return Genes(names=list(registry.genes), ensembl_ids=_ensembl_ids(registry), symbols=_unique(registry.gene_symbols))


def _ensembl_ids(registry: Registry) -> list[str | None] | None:
    """Keep what is an Ensembl id and names one gene alone; columns of real references hold other things, too."""
    ids = _unique(registry.ensembl_ids)
    return ids if ids is None else [name if name is not None and is_ensembl_id(name) else None for name in ids]


def _unique(names: Sequence[str] | None) -> list[str | None] | None:
    """Keep what names one gene alone."""
    if names is None:
        return None
    counts = Counter(names)
    return [name if name and counts[name] == 1 else None for name in names]
