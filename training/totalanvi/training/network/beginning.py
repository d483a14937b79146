"""Where a new network's latents begin: as far apart as their prior says.

Weights that are drawn at random put all cells close together, the more so under layer norm, which looks at one cell at
a time and so leaves in each what all share: means of q(z) differ by a sixth of one draw's spread. A latent dimension in
which draws drown what is different is soon given up, and the divergence keeps it so. Hence the last layer of the
encoder is scaled until means differ as z does in its prior N(0, 1).
"""

from __future__ import annotations

import numpy as np
import torch

from totalanvi.training.data import Cells
from totalanvi.training.network.inputs import EncoderInputs
from totalanvi.training.network.layers import BatchNorm
from totalanvi.training.network.vae import TotalVAE

__all__ = ["spread_latents"]

_MOST_CELLS = 1_000
_LEAST_SPREAD = 1e-3


@torch.no_grad()
def spread_latents(module: TotalVAE, cells: Cells, seed: int = 0) -> None:
    """Scale and shift the means of q(z) so that over some cells each has mean 0 and standard deviation 1.

    Parameters
    ----------
    module
        A network that nothing has trained yet; left in the mode it was in.
    cells
        The reference, of which a thousand cells are looked at. A dimension in which they are all alike is only shifted.
    seed
        Chooses them.

    Examples
    --------
    >>> module = TotalVAE(dims, ModelConfig())  # doctest: +SKIP
    >>> spread_latents(module, cells)  # doctest: +SKIP
    """
    chosen = np.random.default_rng(seed).permutation(len(cells))[:_MOST_CELLS]
    batch = cells[np.sort(chosen)].to_batch()
    was_training = module.training
    module.eval()
    # Until it has trained, the running statistics of batch norm are nobody's; in training, it uses those of the cells.
    for part in module.encoder.modules():
        if isinstance(part, BatchNorm):
            part.train()
    q_z, _ = module.encode(EncoderInputs.of(batch, module.dims))
    module.train(was_training)

    spread = q_z.mean.std(dim=0, correction=0)
    spread = torch.where(spread > _LEAST_SPREAD, spread, torch.ones_like(spread))
    head = module.encoder.z_mean
    head.weight.div_(spread[:, None])
    head.bias.sub_(q_z.mean.mean(dim=0)).div_(spread)
