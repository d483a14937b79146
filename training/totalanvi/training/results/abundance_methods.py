"""Which samples have more cells of a state than others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch.distributions import MixtureSameFamily

from totalanvi.training.base import BaseModel
from totalanvi.training.checks import as_number, as_whole, require_texts
from totalanvi.training.data import Cells
from totalanvi.training.errors import ArgumentError, MissingKeyError, listed
from totalanvi.training.network.losses import Normal
from totalanvi.training.registration.columns import Columns
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.results.abundance import Aggregated
from totalanvi.training.results.arguments import cells_in_batch
from totalanvi.training.results.latent import latent_distribution

__all__ = ["AbundanceMethods"]


class AbundanceMethods(BaseModel):
    """Densities of cells in the latent space."""

    def get_aggregated_posterior(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        dof: float | None = 3.0,
    ) -> MixtureSameFamily:
        """How dense cells are in the latent space: the mixture of their posteriors, before the latent transformation.

        Parameters
        ----------
        adata, batch_size
            As in `get_latent_representation`.
        indices
            Positions of the cells wanted, or a mask; all by default, and when empty.
        dof
            Degrees of freedom of a Student's t in the place of each cell's normal; normals with `None`.

        Returns
        -------
        torch.distributions.MixtureSameFamily
            One component a cell, over (latent,), on the model's device.

        Raises
        ------
        ArgumentError
            For degrees of freedom that are not above 0.
        TrainingError
            For cells as `get_latent_representation`.

        Examples
        --------
        >>> density = model.get_aggregated_posterior(indices=(adata.obs["donor"] == "A").to_numpy())  # doctest: +SKIP
        >>> density.log_prob(torch.zeros(model.module.n_latent))  # doctest: +SKIP

        References
        ----------
        Boyeau et al., Nature Methods (2025), MrVI, Methods: the aggregated posterior of a sample.
        """
        cells, _ = self._cells_of(adata, None if indices is None or len(indices) == 0 else indices)
        return Aggregated(self._normals(cells, cells_in_batch(batch_size)), _freedom(dof)).distribution()

    def differential_abundance(
        self,
        adata: Data | None = None,
        adata_sub: Data | None = None,
        sample_key: str | None = None,
        batch_size: int = 128,
        num_cells_posterior: int | None = None,
        dof: float | None = None,
    ) -> None:
        """How dense the cells of each sample are where a cell lies, noted in ``obsm["da_log_probs"]``.

        The difference of two samples' columns says how much more abundant a cell's state is in one than in the other;
        groups of samples are compared by the logarithms of their mean densities.

        Parameters
        ----------
        adata
            All cells of the samples; the reference by default.
        adata_sub
            The cells that are asked about, and that the result is noted on; those of ``adata`` by default.
        sample_key
            Column of ``obs`` that says which sample a cell is from; a cell without a value is of none.
        batch_size
            Cells in a mini-batch.
        num_cells_posterior
            Most cells that stand for a sample, drawn with the model's seed; all by default.
        dof
            As in `get_aggregated_posterior`; a small number serves samples of few cells.

        Notes
        -----
        ``obsm["da_log_probs"]`` is a data frame of log-densities, (cells, samples), float32: of the samples that occur
        in ``adata_sub``, in the order in which they do. In a MuData, cells without RNA have missing values.

        Raises
        ------
        MissingKeyError
            When there is no column ``sample_key``.
        ArgumentError
            When a sample of ``adata_sub`` has no cell in ``adata``; for less than one cell, or degrees of freedom that
            are not above 0.
        TrainingError
            For cells as `get_latent_representation`.

        Examples
        --------
        >>> model.differential_abundance(adata, sample_key="donor", dof=3)  # doctest: +SKIP
        >>> (adata.obsm["da_log_probs"]["A"] - adata.obsm["da_log_probs"]["B"]).groupby(adata.obs["cell_type"]).mean()
        ... # doctest: +SKIP

        References
        ----------
        Boyeau et al., Nature Methods (2025), MrVI, Methods: differential abundance.
        """
        require_texts(sample_key=sample_key)
        size, dof = cells_in_batch(batch_size), _freedom(dof)
        most = None if num_cells_posterior is None else as_whole("num_cells_posterior", num_cells_posterior, 1)
        cells, names = self._cells_of(adata, None)
        cells_asked, names = (cells, names) if adata_sub is None else self._cells_of(adata_sub, None)
        source = self.adata if adata is None else adata
        target = source if adata_sub is None else adata_sub
        assert source is not None
        assert target is not None
        sample, asked = self._samples(source, sample_key), self._samples(target, sample_key)
        known = self._normals(cells, size)
        points = known.mean if adata_sub is None else self._normals(cells_asked, size).mean
        rng = np.random.default_rng(self.seed)
        densities = {}
        for name in asked.dropna().unique():
            positions = np.flatnonzero(sample == name)
            if len(positions) == 0:
                raise ArgumentError(
                    f"adata_sub: expected samples that adata has cells of ({listed(sample.dropna().unique())}), found "
                    f"{name!r}; give all cells of the samples as adata."
                )
            if most is not None and most < len(positions):
                positions = rng.choice(positions, most, replace=False)
            chosen = Normal(known.mean[positions], known.scale[positions])
            densities[name] = Aggregated(chosen, dof).log_density(points).cpu().numpy()
        frame = pd.DataFrame(densities, index=names)
        target.obsm["da_log_probs"] = frame if names.equals(target.obs_names) else frame.reindex(target.obs_names)

    def _normals(self, cells: Cells, batch_size: int) -> Normal:
        """Posterior of z of each cell before the latent transformation, on the model's device, (cells, latent)."""
        moments = latent_distribution(self.module, cells, batch_size)
        mean, variance = (torch.from_numpy(moment).to(self.module.px_r.device) for moment in moments)
        return Normal(mean, variance.sqrt())

    def _samples(self, data: Data, key: str | None) -> pd.Series:
        """Sample of each cell that the model sees, (cells,)."""
        columns = Columns.of(data, self._setup)
        column = None if key is None else columns.find(key)
        if column is None:
            raise MissingKeyError(
                f"sample_key: expected a column of obs ({listed(columns.table().columns)}), found {key!r}; name one of "
                "them."
            )
        return column


def _freedom(dof: float | None) -> float | None:
    return None if dof is None else as_number("dof", dof, above=0, cure="give such a number, or None for normals")
