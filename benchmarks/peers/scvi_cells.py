"""What the peers of scvi-tools share: cells without proteins as it wants them, and imputation."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd

SAMPLES = 25


def with_panel(cells: ad.AnnData, key: str, panel: list[str]) -> ad.AnnData:
    """Return the cells with the panel's counts, or the all-zero panel that scvi-tools takes for unmeasured."""
    shown = cells.copy()
    if key in cells.obsm:
        shown.obsm[key] = cells.obsm[key][panel].fillna(0)
    else:
        shown.obsm[key] = pd.DataFrame(np.float32(0), index=cells.obs_names, columns=panel)
    return shown


def imputed(model: Any, cells: ad.AnnData, **options: Any) -> dict[str, npt.NDArray[np.float32]]:
    """Return counts imputed with background (``include``) and without (``exclude``), each (cells, proteins)."""
    genes = list(cells.var_names[:1])  # only proteins are wanted; the samples of all genes need much memory
    return {
        background: model.get_normalized_expression(
            cells,
            n_samples=SAMPLES,
            gene_list=genes,
            include_protein_background=background == "include",
            return_numpy=True,
            **options,
        )[1]
        for background in ("include", "exclude")
    }
