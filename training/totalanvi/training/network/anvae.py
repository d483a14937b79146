"""TotalANVI: totalVI whose latent space knows the cell types of some of its cells.

::

    c_n ~ Cat(π)                                      π uniform or learned
    u_n ~ N(0, I)
    z_n | u_n, c_n ~ N(μ(u_n, c_n), σ²(u_n, c_n))     and from z on as in `vae`
    q(z, u, c | x, y) = q(z | x, y) q(c | z) q(u | z, c)

The objective of an unlabelled cell sums over its labels; that of a labelled cell takes its own label for c, and adds
``α · CE(q(c | z), c*)`` (in `plan`).

References
----------
Xu et al., Molecular Systems Biology 17 (2021), scANVI; Kingma et al., NeurIPS 2014, semi-supervised model M1 + M2;
Gayoso, Steier et al., Nature Methods 18 (2021), totalVI.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from totalanvi.training.data import UNLABELLED
from totalanvi.training.errors import ArgumentError
from totalanvi.training.network.background import BackgroundPrior
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.dimensions import Dimensions
from totalanvi.training.network.labels import CellLabelPairs, pair_labels, pair_labels_evenly
from totalanvi.training.network.layers import BatchNorm, FullyConnected, Head
from totalanvi.training.network.losses import Normal, kl_standard_normal, log_normal
from totalanvi.training.network.vae import TotalVAE

__all__ = ["TotalANVAE"]

_DROPOUT_LABELLED_ENCODER = 0.05
_SURE_IN_TRAINING = 0.01
"""q(c | z) from which on a label is sure to count in a step."""

T = TypeVar("T")


class GaussianMap(nn.Module):
    """(vector, label) → a Gaussian over vectors of the same size: q(u | z, c) one way, p(z | u, c) the other."""

    def __init__(self, n_latent: int, trunk: FullyConnected, n_hidden: int, floor: float):
        super().__init__()
        self.trunk = trunk
        self.mean = Head(n_hidden, n_latent)
        self.log_variance = Head(n_hidden, n_latent)
        self.floor = floor

    def forward(self, x: Tensor, label: Tensor) -> Normal:
        """Map (pairs, latent) and label codes (pairs,) to a Gaussian over (pairs, latent)."""
        hidden = self.trunk(x, code=label)
        return Normal(self.mean(hidden), (self.log_variance(hidden).exp() + self.floor).sqrt())


class TotalANVAE(TotalVAE):
    """TotalANVI as a torch module: totalVI, a classifier and the labelled prior.

    Parameters
    ----------
    dims, config, background, library_prior
        As in `TotalVAE`; ``dims.n_labels`` is at least 2.
    """

    def __init__(
        self,
        dims: Dimensions,
        config: ModelConfig,
        background: BackgroundPrior | None = None,
        library_prior: Tensor | None = None,
    ):
        super().__init__(dims, config, background, library_prior)
        n_hidden = config.n_hidden
        n_classifier_hidden = _first(config.classifier_n_hidden, n_hidden)
        n_classifier_layers = _first(config.classifier_n_layers, config.n_layers_encoder)
        n_classifier_layers = 0 if config.linear_classifier else n_classifier_layers
        self.classifier_trunk = FullyConnected(
            config.n_latent,
            n_classifier_hidden,
            n_layers=n_classifier_layers,
            dropout=_first(config.classifier_dropout_rate, config.dropout_rate_encoder),
            norm=config.norm_encoder,
        )
        self.classifier = Head(n_classifier_hidden if n_classifier_layers else config.n_latent, dims.n_labels)
        self.encoder_u = GaussianMap(
            config.n_latent,
            FullyConnected(
                config.n_latent,
                n_hidden,
                n_covariates=dims.n_labels,
                n_layers=config.n_layers_encoder,
                dropout=_DROPOUT_LABELLED_ENCODER,
                norm=config.norm_encoder,
            ),
            n_hidden,
            floor=1e-4,
        )
        self.decoder_z = GaussianMap(
            config.n_latent,
            FullyConnected(
                config.n_latent,
                n_hidden,
                n_covariates=dims.n_labels,
                n_layers=config.n_layers_decoder,
                norm=config.norm_decoder,
            ),
            n_hidden,
            floor=1e-6,
        )
        self.label_prior_logits = nn.Parameter(
            _log_prior(config, dims.n_labels), requires_grad=config.label_prior == "learned"
        )

    def classify(self, latent: Tensor) -> Tensor:
        """Logits of q(c | z), (cells, labels), for transformed latents, (cells, latent)."""
        logits: Tensor = self.classifier(self.classifier_trunk(latent))
        return logits

    def label_logits(self, latent: Tensor) -> Tensor | None:
        """Logits of q(c | z), (cells, labels)."""
        return self.classify(latent)

    def label_guess(self, latent: Tensor) -> Tensor:
        """q(c | z), (..., labels)."""
        return self.classify(latent).softmax(dim=-1)

    def latent_terms(self, q_z: Normal, z: Tensor, label: Tensor, logits: Tensor | None) -> dict[str, Tensor]:
        r"""Divergences of z, u and c.

        .. math::

            \log q(z) + \sum_c q(c \mid z) \big[ \mathrm{KL}(q(u \mid z, c) \| N(0, I))
                - \mathbb{E}_{q(u)} \log p(z \mid u, c) \big] + \mathrm{KL}(q(c \mid z) \| π)

        with the sum at ``c = c*``, and ``−log π(c*)`` for the last term, where the label is known.
        """
        assert logits is not None
        log_q = torch.log_softmax(logits, dim=-1)
        log_prior = torch.log_softmax(self.label_prior_logits, dim=-1)
        pairs = self._pairs(log_q.exp(), label)

        z_pairs = pairs.of_cells(z)
        q_u = self.encoder_u(z_pairs, pairs.label)
        p_z = self.decoder_z(q_u.sample(), pairs.label)
        per_pair = kl_standard_normal(q_u) - log_normal(z_pairs, p_z)

        known = label != UNLABELLED
        kl_label = torch.where(known, -log_prior[label.clamp(min=0)], (log_q.exp() * (log_q - log_prior)).sum(dim=-1))
        return {
            "kl_latent": log_normal(z, q_z) + pairs.sum_into_cells(per_pair, len(label)),
            "kl_label": kl_label,
            "label_logits": logits,
        }

    @property
    def has_fixed_shapes(self) -> bool:
        """Whether no tensor's shape depends on the cells of a mini-batch, but for their number and stored counts."""
        # Batch norm would take the pairs that weigh nothing into its statistics.
        return not any(
            isinstance(part, BatchNorm) for map_ in (self.encoder_u, self.decoder_z) for part in map_.modules()
        )

    def _pairs(self, probabilities: Tensor, label: Tensor) -> CellLabelPairs:
        n_exact = self.config.n_enumerated_labels
        if label.device.type != "cpu" and self.has_fixed_shapes:
            return pair_labels_evenly(probabilities, label, n_exact)
        return pair_labels(probabilities, label, n_exact, _SURE_IN_TRAINING if self.training else 0.0)


def _first(given: T | None, otherwise: T) -> T:
    return otherwise if given is None else given


def _log_prior(config: ModelConfig, n_labels: int) -> Tensor:
    """Where log π begins, up to a constant, (labels,)."""
    if isinstance(config.label_prior, str):
        return torch.zeros(n_labels)
    if len(config.label_prior) != n_labels:
        raise ArgumentError(
            f"label_prior: expected a probability for each of {n_labels} labels, found {len(config.label_prior)}; give "
            "them in the order of the model's labels."
        )
    return torch.tensor(config.label_prior).log()
