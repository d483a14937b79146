"""``fit_readout``: a second opinion on labels and proteins, straight from counts."""

from __future__ import annotations

from contextlib import nullcontext

from totalanvi.machine.still_going import still_going
from totalanvi.training.checks import as_seed, require_flags
from totalanvi.training.errors import ArgumentError
from totalanvi.training.models.trainable import TrainableModel
from totalanvi.training.ranks import is_first_process
from totalanvi.training.readout.fit import fit_readout

__all__ = ["ReadoutMethods"]


class ReadoutMethods(TrainableModel):
    """A model that can be given a readout."""

    def fit_readout(self, seed: int | None = None, progress: bool = True) -> None:
        """Fit a readout to the cells that trained: labels, imputed proteins and novelty straight from counts.

        A low-dimensional z keeps what generates a cell, and loses some of what tells it from its neighbours. A readout
        is linear in log-normalised counts, with an ensemble of small networks on top that has met cells of every panel
        and of shallower runs. It leaves the model's weights as they are. What is exported with it serves the readout's
        labels and proteins; `BENCHMARKS.md` says what that gains. Of several processes that have trained together, the
        first one fits it: it is what `save` writes.

        Parameters
        ----------
        seed
            Of all draws; the model's by default. The same seed gives the same readout, on the CPU.
        progress
            Say every half minute, on standard error, that it is still going on.

        Raises
        ------
        ArgumentError
            When the model was not trained, has no cells, or was adapted to a query: then, q(c | z) is what was adapted.

        Examples
        --------
        >>> model.train()  # doctest: +SKIP
        >>> model.fit_readout()  # doctest: +SKIP
        >>> model.predict(soft=True, use_readout=True).shape  # doctest: +SKIP
        (500, 8)
        """
        require_flags(progress=progress)
        if self.registry.adapted:
            raise ArgumentError(
                "Expected a model of its reference, found one that was adapted to a query; fit the readout before that."
            )
        if not is_first_process():
            return
        cells, dims = self._reference_cells().chosen(self._trained_split().train), self.registry.dimensions
        chosen_seed = self.seed if seed is None else as_seed(seed)
        with still_going(lambda: "Fitting the readout") if progress else nullcontext():
            self.readout = fit_readout(cells, dims.n_labels, dims.n_batches, chosen_seed)
