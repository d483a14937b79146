"""The adversary: it tells batches, or panels, apart from the latent, and the encoder is trained until it cannot.

It helps batches mix where their panels differ, since missing proteins alone would tell them apart.

References
----------
Gayoso, Steier et al., Nature Methods 18 (2021), Methods; Ganin et al.: Domain-adversarial training of neural networks.
JMLR 17 (2016).
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from totalanvi.training.fitting.training_config import TrainingConfig
from totalanvi.training.network.layers import FullyConnected, Head
from totalanvi.training.network.vae import TotalVAE

__all__ = ["Adversary", "make_adversary"]

_N_HIDDEN = 32


class Adversary(nn.Module):
    """A classifier of where a latent comes from.

    Parameters
    ----------
    n_latent
        Dimensions of the latent space.
    n_origins
        Batches or panels to tell apart, at least 2.
    """

    def __init__(self, n_latent: int, n_origins: int):
        super().__init__()
        self.n_origins = n_origins
        self.trunk = FullyConnected(n_latent, _N_HIDDEN, n_layers=2, norm="batch", dropout=0.1)
        self.head = Head(_N_HIDDEN, n_origins)

    def loss(self, latent: Tensor, origin: Tensor, fool: bool) -> Tensor:
        """Cross-entropy to the true origin or, to fool it, to an even spread over all the others."""
        log_p = torch.log_softmax(self.head(self.trunk(latent)), dim=-1)
        truth = F.one_hot(origin, self.n_origins).to(log_p.dtype)
        target = (1.0 - truth) / (self.n_origins - 1) if fool else truth
        return -(target * log_p).sum(dim=-1).mean()


def make_adversary(module: TotalVAE, config: TrainingConfig) -> Adversary | None:
    """Make the adversary that ``config`` asks for; warn where there is nothing to tell apart."""
    if not config.adversarial_classifier:
        return None
    by_panel = config.key_adversarial == "panel"
    n_origins = module.dims.n_panels if by_panel else module.dims.n_batches
    if n_origins < 2:
        warnings.warn(
            f"adversarial_classifier: expected several {'panels' if by_panel else 'batches'} to tell apart, found "
            f"{n_origins}; training goes on without it.",
            UserWarning,
            stacklevel=2,
        )
        return None
    return Adversary(module.config.n_latent, n_origins)
