"""scvi-tools TOTALANVI with its own defaults; held-out cells are mapped zero-shot.

It has no way to say that some proteins of a measured panel are missing, so that a query with part of the panel is
mapped to a model of its own, trained on that part.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from exchange import Exchange
from scvi_cells import imputed, with_panel

UNLABELLED = "unlabelled"


def trained(exchange: Exchange, reference: ad.AnnData, panel: list[str]) -> scvi.external.TOTALANVI:
    """Return a model of the reference's RNA and the panel."""
    scvi.settings.seed = exchange.seed
    labels = exchange.labels(reference)
    cells = with_panel(reference, exchange.task["proteins_key"], panel)
    cells.obs["label"] = pd.Categorical(np.where(labels == "", UNLABELLED, labels))
    scvi.external.TOTALANVI.setup_anndata(
        cells,
        batch_key=exchange.task["batch_key"],
        labels_key="label",
        unlabeled_category=UNLABELLED,
        protein_expression_obsm_key=exchange.task["proteins_key"],
    )
    model = scvi.external.TOTALANVI(cells)
    model.train(max_epochs=exchange.max_epochs, accelerator="cpu", devices=1)
    return model


def main() -> None:
    """Train, then predict labels and impute proteins of each query."""
    exchange = Exchange.from_arguments(__doc__ or "")
    torch.set_num_threads(exchange.threads)
    key, batch_key = exchange.task["proteins_key"], exchange.task["batch_key"]
    reference, queries = exchange.reference(), exchange.queries()
    whole = list(reference.obsm[key].columns)
    models: dict[tuple[str, ...], scvi.external.TOTALANVI] = {}
    for mode, cells in queries.items():
        panel = exchange.task["panels"][mode] or whole
        if tuple(panel) not in models:
            with exchange.timed(f"train_{len(panel)}_proteins"):
                models[tuple(panel)] = trained(exchange, reference, panel)
        model = models[tuple(panel)]
        query = with_panel(cells, key, panel)
        query.obs["label"] = UNLABELLED
        if not set(query.obs[batch_key]) <= set(reference.obs[batch_key]):
            # A batch that the model has not seen needs scvi-tools' surgery; zero-shot means no training after it.
            model = scvi.external.TOTALANVI.load_query_data(query, model)
            model.is_trained_ = True
        with exchange.timed(f"map_{mode}"):
            soft = model.predict(query, soft=True)
            proteins = imputed(model, query) if mode == "rna" else None
        exchange.answer_labels(mode, soft.columns, soft.to_numpy())
        if proteins is not None:
            exchange.answer_proteins(proteins["include"], proteins["exclude"])
    exchange.write("scvi-tools", "torch")


if __name__ == "__main__":
    main()
