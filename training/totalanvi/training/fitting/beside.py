"""A thread beside the one that trains: on a CPU, two parts of a step are computed at a time.

What torch computes with several threads, it cuts into pieces, operation by operation, and waits for all of them each
time. A step is a thousand operations, most of which take less time than waking a thread that sleeps; one that does not
sleep while it waits takes the core from whoever else needs it. So each thread computes by itself instead: the
likelihood of the RNA, a third of all there is to do, beside everything else (see `network.counts_of_features`). What
can wait is left to the thread beside, too: the next mini-batch, gradients of weights, half of a step, metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import lightning as L
import torch

from totalanvi.training.fitting.capturable import looks_into_steps
from totalanvi.training.network.late_gradients import LateGradients, Linear
from totalanvi.training.network.vae import TotalVAE

__all__ = ["computes_apart", "thread_beside"]


def computes_apart(trainer: L.Trainer, module: TotalVAE) -> bool:
    """Whether the RNA's likelihood is a function of its own: on a CPU, in full precision, where it is a plain one."""
    on_a_cpu = trainer.strategy.root_device.type == "cpu"
    return on_a_cpu and module.genes_stand_apart and "mixed" not in str(trainer.precision)


@contextmanager
def thread_beside(trainer: L.Trainer, module: TotalVAE) -> Iterator[tuple[Executor, LateGradients] | tuple[None, None]]:
    """Share torch's threads out to this thread and one beside it, while the block runs.

    Parameters
    ----------
    trainer
        Of the run.
    module
        The model.

    Yields
    ------
    Executor, LateGradients
        The thread beside, and the gradients of weights that it computes; `None` each, and all threads here, where it
        would have nothing to do (see `computes_apart`), where torch has a single thread, and where a callback looks at
        losses in the middle of a step, which are no numbers then.
    """
    n_threads = torch.get_num_threads()
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    if not computes_apart(trainer, module) or n_threads < 2 or any(map(looks_into_steps, callbacks)):
        yield None, None
        return
    there = n_threads // 2
    layers = [layer for layer in module.modules() if isinstance(layer, Linear)]
    torch.set_num_threads(n_threads - there)
    try:
        with ThreadPoolExecutor(1, "beside", initializer=torch.set_num_threads, initargs=(there,)) as executor:
            late = LateGradients(executor)
            for layer in layers:
                layer.late = late
            yield executor, late
    finally:
        for layer in layers:
            layer.late = None
        torch.set_num_threads(n_threads)
