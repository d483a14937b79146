"""A run that diverges: seen once an epoch, told in one error, and undone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from totalanvi.training.errors import DivergenceError

__all__ = ["require_finite", "undone_if_diverged"]


def require_finite(module: nn.Module, loss: Any, epoch: int, lr: float) -> None:
    """Refuse to go on with a loss or with weights that are no numbers any more.

    Parameters
    ----------
    module
        What is trained.
    loss
        Mean loss of an epoch; one that is not finite in any mini-batch is not finite here.
    epoch
        Its number, from 0, for the message.
    lr
        Learning rate of the run, for the message.

    Raises
    ------
    DivergenceError
        When the loss or a weight is infinite or NaN.
    """
    # The last step of an epoch may have spoilt weights that no loss has seen yet.
    spoilt = not torch.stack([weight.isfinite().all() for weight in module.parameters()]).all()
    if math.isfinite(float(loss)) and not spoilt:
        return
    found = "weights that are not finite" if spoilt else f"{float(loss):g}"
    raise DivergenceError(
        f"Expected a finite loss, found {found} in epoch {epoch + 1}: the run has diverged, and the model is as it was "
        f"before. Lower lr ({lr:g} here, 0.004 by default), an argument of train() in Python, and scale continuous "
        "covariates to values around 1."
    )


@contextmanager
def undone_if_diverged(module: nn.Module) -> Iterator[None]:
    """Give ``module`` its weights and statistics back when the run diverges."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    try:
        yield
    except DivergenceError:
        module.load_state_dict(before)
        raise
