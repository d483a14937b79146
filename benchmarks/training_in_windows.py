"""One epoch of training from a file, read whole or in windows; prints one line of JSON: rates, memory, the ELBO."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

from large_files import LABELS, PROTEINS, UNLABELLED
from totalanvi.training import TOTALANVI
from totalanvi.training.files import read_reference


class Clock(L.Callback):
    """Seconds of steps, and between them: there, the loop waits for cells, or does its own work."""

    def __init__(self) -> None:
        self.steps = self.waiting = 0.0
        self.n_cells = self.n_steps = 0
        self.began = self.processor_began = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clocks."""
        self.began, self.processor_began, self.last = time.perf_counter(), time.process_time(), time.perf_counter()

    def on_train_batch_start(self, trainer: L.Trainer, plan: L.LightningModule, batch: Any, number: int) -> None:
        """Count what passed since the last step."""
        self.waiting += time.perf_counter() - self.last
        self.n_cells += batch.n_cells
        self.n_steps += 1

    def on_train_batch_end(self, *_: Any) -> None:
        """Remember when a step ended; the clocks of the run go on to here."""
        self.last = time.perf_counter()
        self.seconds = self.last - self.began
        self.processor_seconds = time.process_time() - self.processor_began


def peak_gigabytes() -> float:
    """Most resident memory since the last call; Linux."""
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 2**20
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def main() -> None:
    """Read, register, train, fit a readout, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("way", choices=("memory", "windows"))
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, default=0, help="mini-batches; an epoch by default")
    parser.add_argument("--readout", action="store_true", help="fit one, which takes many minutes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    peaks, began = {"importing": peak_gigabytes()}, time.perf_counter()
    adata = read_reference(options.file, backed=options.way == "windows")
    TOTALANVI.setup_anndata(adata, PROTEINS, batch_key="batch", labels_key=LABELS, unlabeled_category=UNLABELLED)
    model: Any = TOTALANVI(adata)
    register_seconds, clock = time.perf_counter() - began, Clock()
    peaks["registering"] = peak_gigabytes()
    limits = {"limit_train_batches": options.steps, "limit_val_batches": options.steps} if options.steps else {}
    model.train(max_epochs=1, accelerator="cpu", progress=False, callbacks=[clock], **limits)
    peaks["training"] = peak_gigabytes()
    if options.readout:
        model.fit_readout()
        peaks["fitting a readout"] = peak_gigabytes()
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "checkpoint")
    peaks["saving"] = peak_gigabytes()
    began = time.perf_counter()
    model.predict()
    peaks["predicting"] = peak_gigabytes()
    print(
        json.dumps(
            {
                "register_seconds": register_seconds,
                "steps": clock.n_steps,
                "seconds": clock.seconds,
                "processor_seconds": clock.processor_seconds,
                "cells_per_second": clock.n_cells / clock.seconds,
                "cells_per_processor_second": clock.n_cells / clock.processor_seconds,
                "waiting": clock.waiting / clock.seconds,
                "elbo": float(model.history["elbo_validation"].iloc[-1].item()),
                "predicted_cells_per_second": model.n_cells / (time.perf_counter() - began),
                "peak_gigabytes": peaks,
            }
        )
    )


if __name__ == "__main__":
    main()
