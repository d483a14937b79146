"""scvi-tools TOTALVI with its own defaults, trained on reference and query together; imputation only.

The query is a batch of its own whose proteins are missing; they are imputed as those of the reference's batches that
have proteins.
"""

from __future__ import annotations

import anndata as ad
import scvi
import torch
from exchange import Exchange
from scvi_cells import imputed, with_panel

QUERY = "query"


def main() -> None:
    """Train on both, then impute the query's proteins."""
    exchange = Exchange.from_arguments(__doc__ or "")
    torch.set_num_threads(exchange.threads)
    scvi.settings.seed = exchange.seed
    key, batch_key = exchange.task["proteins_key"], exchange.task["batch_key"]
    reference = exchange.reference()
    panel = list(reference.obsm[key].columns)
    parts = {"reference": reference, QUERY: exchange.queries()["rna"]}
    both = ad.concat({name: with_panel(part, key, panel) for name, part in parts.items()}, label="part")
    asked = (both.obs["part"] == QUERY).to_numpy()
    both.obs["run"] = both.obs[batch_key].astype(str).where(~asked, QUERY)
    measured = both.obsm[key].groupby(both.obs["run"]).sum().sum(axis=1) > 0
    scvi.model.TOTALVI.setup_anndata(both, batch_key="run", protein_expression_obsm_key=key)
    model = scvi.model.TOTALVI(both)
    with exchange.timed("train"):
        model.train(max_epochs=exchange.max_epochs, accelerator="cpu", devices=1)
    with exchange.timed("map_rna"):
        query = both[asked].copy()
        proteins = imputed(model, query, transform_batch=list(measured.index[measured]))
    exchange.answer_proteins(proteins["include"], proteins["exclude"])
    exchange.write("scvi-tools", "torch")


if __name__ == "__main__":
    main()
