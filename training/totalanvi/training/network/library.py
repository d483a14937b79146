"""The library size of cells: whether it is inferred, and where the prior of an inferred one comes from."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from totalanvi.training.data import Cells
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.dimensions import Dimensions

__all__ = ["infers_library", "library_moments"]

_LEAST_VARIANCE = 1e-4


def infers_library(config: ModelConfig, dims: Dimensions) -> bool:
    """Whether a network infers the library size, and neither observes it nor takes a size factor in its place."""
    return not (config.use_observed_lib_size or dims.has_size_factor)


def library_moments(cells: Cells, n_batches: int) -> Tensor:
    """Mean and variance of the log library of each batch, (batches, 2); 0 and 1 for a batch without cells.

    References
    ----------
    Lopez et al., Nature Methods 15 (2018), Methods: the log-normal prior of a batch's library sizes.
    """
    log_library = np.log(np.maximum(cells.library, 1.0))
    rows = [log_library[cells.batch == code] for code in range(n_batches)]
    return torch.tensor(
        [[row.mean(), max(row.var(), _LEAST_VARIANCE)] if len(row) else [0.0, 1.0] for row in rows],
        dtype=torch.float32,
    )
