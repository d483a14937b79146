"""Names for what `simulate` makes up: plausible to read, and unlike any real gene, protein or cell type."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

__all__ = ["gene_names", "label_names", "protein_names"]

GREEK = [
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta",
    "iota", "kappa", "lambda", "mu", "nu", "xi", "omicron", "pi",
    "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
]  # fmt: skip
FIRST_CD = 501
"""Real clusters of differentiation end before 400."""


def label_names(n_labels: int) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return names such as ``"beta 2"`` and the lineage of each label.

    Labels go round the lineages, so that any first few of them differ much and the last has relatives.
    """
    n_lineages = min(len(GREEK), max(2, round(n_labels**0.5)))
    order = np.arange(n_labels)
    return [f"{GREEK[i % n_lineages]} {i // n_lineages + 1}" for i in order], order % n_lineages


def protein_names(n_proteins: int) -> list[str]:
    """Return ``["CD501", "CD502", …]``."""
    return [f"CD{FIRST_CD + i}" for i in range(n_proteins)]


def gene_names(n_genes: int, encoding: npt.NDArray[np.int64]) -> list[str]:
    """Return unique symbols in families of nine (``"BABX1"`` … ``"BABX9"``); the gene of protein CD501 is ``"CD501A"``.

    Parameters
    ----------
    n_genes
        How many.
    encoding
        (proteins,) for each protein the index of its gene.
    """
    families = ("".join(letters) + "X" for letters in product("BDFGKLMNPRSTVZ", "AEIOU", "BDFGKLMNPRSTVZ"))
    names: list[str] = []
    while len(names) < n_genes:
        family = next(families, None)
        if family is None:
            names.extend(f"GENE{i}" for i in range(len(names), n_genes))
            break
        names.extend(f"{family}{i}" for i in range(1, 10))
    names = names[:n_genes]
    for protein, gene in zip(protein_names(len(encoding)), encoding, strict=True):
        names[gene] = f"{protein}A"
    return names
