"""Where the weights of a new network begin: at what some of its cells look like on average.

Drawn at random, a network spends its first hundreds of steps on what all cells have in common. Layer norm, which looks
at one cell at a time, does not take that away as batch norm does: until the weights have learnt to, cells differ little
in the hidden features, and less in the latent space than one draw from their posterior does from the next.

So the biases begin where each layer's features are 0 on average; the means of q(z) spread as the prior does; q(z) is
narrower than that; and a gene's share begins at its share of all counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from totalanvi.training.data import Cells
from totalanvi.training.network.inputs import EncoderInputs
from totalanvi.training.network.layers import FullyConnected
from totalanvi.training.network.vae import TotalVAE

__all__ = ["begin_from"]

_MOST_CELLS = 1_000
_LEAST_SPREAD = 1e-3
_LOG_VARIANCE = -2.0
"""Of q(z): a standard deviation of 0.37."""


@torch.no_grad()
def begin_from(module: TotalVAE, cells: Cells, seed: int = 0) -> None:
    """Move the weights of a network that nothing has trained yet to where these cells are.

    Parameters
    ----------
    module
        A new network; left in the mode it was in.
    cells
        The reference; a thousand of its cells are looked at.
    seed
        Chooses them.

    Examples
    --------
    >>> module = TotalVAE(dims, ModelConfig())  # doctest: +SKIP
    >>> begin_from(module, cells)  # doctest: +SKIP
    """
    chosen = np.random.default_rng(seed).permutation(len(cells))[:_MOST_CELLS]
    batch = cells[np.sort(chosen)].to_batch()
    was_training = module.training
    module.eval()

    encoder = module.encoder
    with _centring(encoder.trunk):
        q_z, _ = module.encode(EncoderInputs.of(batch, module.dims))
    spread = q_z.mean.std(dim=0, correction=0)
    spread = torch.where(spread > _LEAST_SPREAD, spread, torch.ones_like(spread))  # cells that are all alike
    encoder.z_mean.weight.div_(spread[:, None])
    encoder.z_mean.bias.sub_(q_z.mean.mean(dim=0)).div_(spread)
    encoder.z_log_variance.bias.add_(_LOG_VARIANCE)

    if module.gene_decoder.sums_to_one:
        # One count more for each gene: none is impossible because a thousand cells lack it.
        counts = torch.zeros(module.dims.n_genes).index_add_(0, batch.rna.columns, batch.rna.values) + 1.0
        module.gene_decoder.log_scale.bias.copy_(counts.log() - counts.log().mean())
    module.train(was_training)


@contextmanager
def _centring(stack: FullyConnected) -> Iterator[None]:
    """Meanwhile, let every layer's bias take the mean over the cells that pass out of its linear map."""

    def centre(linear: nn.Module) -> Any:
        def before_norm(_: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
            assert isinstance(linear, nn.Linear)
            mean = inputs[0].mean(dim=0)
            linear.bias.sub_(mean)
            return (inputs[0] - mean,)

        return before_norm

    hooks = [
        norm.register_forward_pre_hook(centre(linear)) for linear, norm in zip(stack.linears, stack.norms, strict=True)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
