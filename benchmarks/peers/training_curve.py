"""How held-out cells fare while a model trains: the same script for the product and for scvi-tools.

Runs in the environment of the package that is named; prints one line of JSON. What is timed is training alone: the
clocks stand while held-out cells are looked at.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata as ad
import lightning as L
import numpy as np
import torch
from held_out import measure

UNLABELLED = "unlabelled"
PACKAGES = {"totalanvi": "totalanvi.training", "scvi-tools": "scvi.external"}
EARLY_EPOCHS = 12
"""Every one of the first epochs is looked at, later ones less often."""


class Curve(L.Callback):
    """After epochs: seconds of training so far, on the clock and of the processors, and how held-out cells fare."""

    def __init__(self, package: str, model: Any, held_out: ad.AnnData, true_codes: torch.Tensor, options: Any) -> None:
        self.package, self.model, self.held_out = package, model, held_out
        self.true_codes = true_codes
        self.options = options
        self.points: list[dict[str, float]] = []
        self.spent = {"seconds": 0.0, "processor_seconds": 0.0}

    def _start(self) -> None:
        self.began = {"seconds": time.perf_counter(), "processor_seconds": time.process_time()}

    def on_train_start(self, *_: Any) -> None:
        """Start the clocks."""
        self._start()

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Stop the clocks, look, start them again."""
        now = {"seconds": time.perf_counter(), "processor_seconds": time.process_time()}
        for name, began in self.began.items():
            self.spent[name] += now[name] - began
        epoch = trainer.current_epoch + 1
        if epoch <= EARLY_EPOCHS or epoch % self.options.every == 0 or epoch == trainer.max_epochs:
            elbo, accuracy = measure(self.package, self.model, self.held_out, self.true_codes, self.options.draws)
            self.points.append({"epoch": epoch, **self.spent, "elbo": elbo, "accuracy": accuracy})
            print(self.package, json.dumps(self.points[-1]), file=sys.stderr, flush=True)
        self._start()


def main() -> None:
    """Train on the cells of one file, look at those of another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", choices=PACKAGES)
    parser.add_argument("cells", type=Path, help="h5ad of the training cells: obs label, batch; obsm protein")
    parser.add_argument("held_out", type=Path, help="h5ad of held-out cells: obs label, true_label, batch")
    parser.add_argument("--options", type=json.loads, default={}, help="arguments of train() in JSON")
    parser.add_argument("--every", type=int, default=2, help="epochs from one look to the next, later on")
    parser.add_argument("--draws", type=int, default=3, help="draws from the posterior of a held-out cell")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)

    cells, held_out = ad.read_h5ad(options.cells), ad.read_h5ad(options.held_out)
    model_class = importlib.import_module(PACKAGES[options.package]).TOTALANVI
    names = {"batch_key": "batch", "labels_key": "label", "unlabeled_category": UNLABELLED}
    model_class.setup_anndata(cells, protein_expression_obsm_key="protein", **names)
    own = {"seed": options.seed} if options.package == "totalanvi" else {}
    model = model_class(cells, empirical_protein_background_prior=False, **own)
    labels = sorted(set(cells.obs["label"].astype(str)) - {UNLABELLED})
    codes = torch.from_numpy(np.searchsorted(labels, held_out.obs["true_label"].astype(str)))
    curve = Curve(options.package, model, held_out, codes, options)
    model.train(
        train_size=1.0,
        validation_size=0.0,
        accelerator="cpu",
        devices=1,
        early_stopping=False,
        callbacks=[curve],
        enable_progress_bar=False,
        **options.options,
    )
    versions = {name: version(name) for name in (options.package, "torch", "lightning")}
    print(json.dumps({"options": options.options, "points": curve.points, "versions": versions}))


if __name__ == "__main__":
    main()
