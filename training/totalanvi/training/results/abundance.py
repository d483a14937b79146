r"""How dense cells of a sample are at a place in the latent space.

.. math::

    q_s(z) = \frac{1}{n_s} \sum_{n \in s} q(z \mid x_n, y_n)

The ratio of two samples' densities says which of them has more cells in a state. All of it is about z before the latent
transformation, where the posterior is normal; a ratio is the same after it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, StudentT
from torch.distributions import Normal as TorchNormal

from totalanvi.training.network.losses import Normal

__all__ = ["Aggregated"]

_MOST_VALUES = 2**22
"""Numbers that are held at once, whatever the number of cells: 16 MiB."""


class Aggregated(NamedTuple):
    """The mixture of the posteriors of cells, each with the same weight."""

    posteriors: Normal
    """(cells, latent)."""
    dof: float | None
    """Degrees of freedom of a Student's t in the place of each normal; its tails bridge the gaps between few cells."""

    def distribution(self) -> MixtureSameFamily:
        """The mixture, for torch."""
        mean = self.posteriors.mean
        alike = Categorical(logits=torch.zeros(len(mean), device=mean.device))
        return MixtureSameFamily(alike, self._components(slice(None)))

    def log_density(self, points: Tensor) -> Tensor:
        """Log-density at points, (points, latent), one by one, (points,); memory is bounded."""
        n_cells, n_latent = self.posteriors.mean.shape
        n_points = max(1, math.isqrt(_MOST_VALUES // n_latent))
        n_components = max(1, _MOST_VALUES // (n_latent * n_points))
        densities = []
        for part in torch.split(points, n_points):
            total = part.new_full((len(part),), -math.inf)
            for start in range(0, n_cells, n_components):
                components = self._components(slice(start, start + n_components))
                each: Tensor = components.log_prob(part[:, None])
                total = torch.logaddexp(total, each.logsumexp(dim=-1))
            densities.append(total - math.log(n_cells))
        return torch.cat(densities)

    def _components(self, part: slice) -> Distribution:
        mean, scale = self.posteriors.mean[part], self.posteriors.scale[part]
        return Independent(TorchNormal(mean, scale) if self.dof is None else StudentT(self.dof, mean, scale), 1)
