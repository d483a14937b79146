"""scvi-tools TOTALANVI with its own defaults; held-out cells are mapped zero-shot."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from exchange import Exchange

UNLABELLED = "unlabelled"
SAMPLES = 25


def prepared(cells: ad.AnnData, reference: ad.AnnData, key: str) -> ad.AnnData:
    """Give cells without proteins the all-zero panel that scvi-tools takes for unmeasured."""
    if key in cells.obsm:
        cells.obsm[key] = cells.obsm[key].fillna(0)
    else:
        columns = reference.obsm[key].columns
        cells.obsm[key] = pd.DataFrame(np.float32(0), index=cells.obs_names, columns=columns)
    return cells


def main() -> None:
    """Train, then predict labels and impute proteins of each query."""
    exchange = Exchange.from_arguments(__doc__ or "")
    torch.set_num_threads(exchange.threads)
    scvi.settings.seed = exchange.seed
    key, batch_key = exchange.task["proteins_key"], exchange.task["batch_key"]
    reference = exchange.reference()
    labels = exchange.labels(reference)
    prepared(reference, reference, key).obs["label"] = pd.Categorical(np.where(labels == "", UNLABELLED, labels))
    scvi.external.TOTALANVI.setup_anndata(
        reference,
        batch_key=batch_key,
        labels_key="label",
        unlabeled_category=UNLABELLED,
        protein_expression_obsm_key=key,
    )
    model = scvi.external.TOTALANVI(reference)
    with exchange.timed("train"):
        model.train(max_epochs=exchange.max_epochs, accelerator="cpu", devices=1)

    genes = list(reference.var_names[:1])  # only proteins are wanted; the samples of all genes need much memory
    for mode, cells in exchange.queries().items():
        query = prepared(cells, reference, key)
        query.obs["label"] = UNLABELLED
        mapper = model
        if batch_key is not None and not set(query.obs[batch_key]) <= set(reference.obs[batch_key]):
            # A batch that the model has not seen needs scvi-tools' surgery; zero-shot means no training after it.
            mapper = scvi.external.TOTALANVI.load_query_data(query, model)
            mapper.is_trained_ = True
        with exchange.timed(f"map_{mode}"):
            soft = mapper.predict(query, soft=True)
            imputed = {
                background: mapper.get_normalized_expression(
                    query,
                    n_samples=SAMPLES,
                    gene_list=genes,
                    include_protein_background=background == "include",
                    return_numpy=True,
                )[1]
                for background in ("include", "exclude")
            }
        exchange.answer_labels(mode, soft.columns, soft.to_numpy())
        if mode == "rna":
            exchange.answer_proteins(imputed["include"], imputed["exclude"])
    exchange.write("scvi-tools", "torch")


if __name__ == "__main__":
    main()
