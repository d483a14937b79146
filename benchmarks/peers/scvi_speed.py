"""scvi-tools TOTALANVI, timed on demand: a line of JSON in, a line of JSON out.

It trains on the reference once, for as long as it takes to be a model, and then answers ``{"work": …, "n_cells": …,
"batch_size": …}`` with the seconds that the work took, and ``{}`` by ending. Its own words go to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scvi
import torch

SAMPLES = 25


def main() -> None:
    """Train, say so, and work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--max-epochs", type=int, required=True)
    options = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(options.threads)
    scvi.settings.seed = 0
    scvi.settings.verbosity = 40
    reference = ad.read_h5ad(options.folder / "reference.h5ad")
    query = ad.read_h5ad(options.folder / "query.h5ad")
    scvi.external.TOTALANVI.setup_anndata(
        reference,
        batch_key="batch",
        labels_key="cell_type",
        unlabeled_category="unlabelled",
        protein_expression_obsm_key="protein_expression",
    )
    model = scvi.external.TOTALANVI(reference)
    model.train(max_epochs=options.max_epochs, accelerator="cpu", devices=1)
    print(json.dumps({"scvi-tools": scvi.__version__, "torch": torch.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if not order:
            return
        print(json.dumps(timed(model, query, **order)), file=answers, flush=True)


def timed(model: Any, query: ad.AnnData, work: str, n_cells: int, batch_size: int) -> dict[str, float]:
    """Do what is asked for, and say how long it took, and how right the labels are."""
    cells = query[:n_cells].copy()
    # What is registered the first time that the model sees these cells is not the work.
    model._validate_anndata(cells)
    started, used = time.perf_counter(), time.process_time()

    def taken() -> dict[str, float]:
        return {"seconds": time.perf_counter() - started, "processor": time.process_time() - used}

    if work == "labels":
        labels = model.predict(cells, batch_size=batch_size)
        answer = taken()
        return answer | {"accuracy": float(np.mean(np.asarray(labels) == cells.obs["cell_type"].to_numpy()))}
    # Only proteins are wanted: one gene, since none cannot be asked for.
    model.get_normalized_expression(
        cells, n_samples=SAMPLES, gene_list=list(cells.var_names[:1]), return_numpy=True, batch_size=batch_size
    )
    return taken()


if __name__ == "__main__":
    main()
