"""Epochs of training, timed: the same script for the product and for scvi-tools, which answer to the same calls.

Runs in the environment of the package that is named; prints one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata as ad
import lightning as L
import numpy as np
import torch

UNLABELLED = "unlabelled"
PACKAGES = {"totalanvi": "totalanvi.training", "scvi-tools": "scvi.external"}


class Clock(L.Callback):
    """Seconds of each epoch and of each step, on the clock; processor seconds of each step."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.steps: list[float] = []
        self.processor_steps: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start an epoch's clock."""
        self.epoch_began = time.perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Stop it."""
        self.epochs.append(time.perf_counter() - self.epoch_began)

    def on_train_batch_start(self, *_: Any) -> None:
        """Start a step's clocks."""
        self.step_began = time.perf_counter(), time.process_time()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop them."""
        self.steps.append(time.perf_counter() - self.step_began[0])
        self.processor_steps.append(time.process_time() - self.step_began[1])


def main() -> None:
    """Train for some epochs on the cells of a file; say how long they took and what was learnt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", choices=PACKAGES)
    parser.add_argument("cells", type=Path, help="h5ad: obs label, true_label, batch; obsm protein")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    cells = ad.read_h5ad(options.cells)
    model_class = importlib.import_module(PACKAGES[options.package]).TOTALANVI
    names = {"batch_key": "batch", "labels_key": "label", "unlabeled_category": UNLABELLED}
    model_class.setup_anndata(cells, protein_expression_obsm_key="protein", **names)
    model, clock = model_class(cells, empirical_protein_background_prior=False), Clock()
    model.train(
        max_epochs=options.epochs,
        batch_size=options.batch_size,
        train_size=1.0,
        validation_size=0.0,
        accelerator=options.accelerator,
        devices=1,
        early_stopping=False,
        plan_kwargs={"reduce_lr_on_plateau": False},
        callbacks=[clock],
        enable_progress_bar=False,
    )
    unlabelled = np.flatnonzero(cells.obs["label"] == UNLABELLED)[:2000]
    predicted = np.asarray(model.predict(indices=unlabelled)).astype(str)
    right = predicted == cells.obs["true_label"].astype(str).to_numpy()[unlabelled]
    print(
        json.dumps(
            {
                "epoch_seconds": clock.epochs,
                "step_seconds": float(np.median(clock.steps)),
                "step_processor_seconds": float(np.median(clock.processor_steps)),
                "steps_per_epoch": len(clock.steps) / options.epochs,
                "elbo": np.asarray(model.history["elbo_train"]).ravel().astype(float).tolist(),
                "accuracy": float(right.mean()),
                "versions": {name: version(name) for name in (options.package, "torch", "lightning")},
            }
        )
    )


if __name__ == "__main__":
    main()
