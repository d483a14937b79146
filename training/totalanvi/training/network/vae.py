"""totalVI: one latent space for the RNA and the surface proteins of a cell.

::

    z_n ~ N(0, I)                                     (TotalANVI puts a labelled prior here, see `anvae`)
    ℓ_n observed, or ~ LogNormal, or a size factor
    ρ_n = softmax f(z_n, s_n)                         x_n ~ NB(ℓ_n ρ_n, θ)        s_n: batch and covariates
    log β_nj ~ N(a_j, b_j)                            protein background, prior per panel
    α_nj = 1 + relu g(z_n, s_n)                       foreground: α β
    π_nj = sigmoid h(z_n, s_n)                        probability of background
    y_nj ~ π NB(β, φ_j) + (1 − π) NB(αβ, φ_j)

References
----------
Gayoso, Steier, Lopez, Regier, Nazor, Streets, Yosef: Joint probabilistic modeling of single-cell multi-omic data with
totalVI. Nature Methods 18 (2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from types import MappingProxyType
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from totalanvi.training.data import UNLABELLED, CellBatch
from totalanvi.training.network.augmentation import Augmentation
from totalanvi.training.network.background import BackgroundPrior
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.counts_of_features import Begun, begin, negative_log_probability_of_features
from totalanvi.training.network.covariates import Covariates, UsualCovariates
from totalanvi.training.network.decoders import GeneDecoder, ProteinDecoder, ProteinParameters
from totalanvi.training.network.dimensions import Dimensions
from totalanvi.training.network.dispersion import dispersion_parameter, log_dispersion, per_label
from totalanvi.training.network.encoder import Encoder
from totalanvi.training.network.familiar import FamiliarNames
from totalanvi.training.network.inputs import EncoderInputs, hide, hide_batch
from totalanvi.training.network.losses import (
    ElboTerms,
    HiddenTerms,
    Normal,
    efficiency_penalty,
    gene_reconstruction,
    kl_background,
    kl_library,
    kl_normals,
    kl_standard_normal,
    protein_reconstruction,
)
from totalanvi.training.network.softmax_counts import log_negative_binomial_of_shares

__all__ = ["TotalVAE"]

_MOST_LOG_LIBRARY = 15.0


class TotalVAE(FamiliarNames):
    """totalVI as a torch module: `encode`, `decode_genes`, `decode_proteins`, and the terms of its ELBO.

    Parameters
    ----------
    dims
        Sizes that the reference sets.
    config
        Architecture.
    background
        Initial prior of the protein background per panel; drawn wide when `None`.
    library_prior
        Mean and variance of log ℓ per batch, (batches, 2); needed when the library is inferred.
    """

    def __init__(
        self,
        dims: Dimensions,
        config: ModelConfig,
        background: BackgroundPrior | None = None,
        library_prior: Tensor | None = None,
    ):
        super().__init__()
        self.dims = dims
        self.config = config
        self.encoder = Encoder(dims, config)
        self.gene_decoder = GeneDecoder(dims, config)
        self.protein_decoder = ProteinDecoder(dims, config)
        self.usual_covariates = UsualCovariates(dims)
        background = background or BackgroundPrior.wide(dims.n_proteins, dims.n_panels)
        self.background_pro_alpha = nn.Parameter(torch.as_tensor(background.mean, dtype=torch.float32))
        self.background_pro_log_beta = nn.Parameter(torch.as_tensor(np.log(background.scale), dtype=torch.float32))
        self.log_per_batch_efficiency = nn.Parameter(torch.zeros(dims.n_proteins, dims.n_batches))
        self.px_r = dispersion_parameter(config.gene_dispersion, dims.n_genes, dims, torch.randn)
        self.py_r = dispersion_parameter(
            config.protein_dispersion, dims.n_proteins, dims, lambda *shape: 2.0 * torch.rand(*shape)
        )
        if self.encoder.library is not None:
            prior = torch.zeros(dims.n_batches, 2) if library_prior is None else library_prior
            means, variances = prior.t().unsqueeze(1)
            self.register_buffer("library_log_means", means.contiguous())
            self.register_buffer("library_log_vars", variances.contiguous())

    trained_parts: Mapping[str, Tensor] = MappingProxyType({})
    """By name of a parameter of which a part is trained: which entries, a bool tensor of its shape (see `surgery`)."""
    library_log_means: Tensor
    """Prior mean of log ℓ, (1, batches), where the library is inferred."""
    library_log_vars: Tensor

    @classmethod
    def unfilled(cls, dims: Dimensions, config: ModelConfig) -> Self:
        """Make a network whose weights are yet to be loaded; the global random state does not move."""
        with torch.random.fork_rng():
            return cls(dims, config)

    # Inference

    def encode(self, inputs: EncoderInputs) -> tuple[Normal, Normal | None]:
        """q(z | x, y, s) before the latent transformation, and q(log ℓ) where the library is inferred."""
        posterior: tuple[Normal, Normal | None] = self.encoder(inputs)
        return posterior

    def transform(self, z: Tensor) -> Tensor:
        """The latent transformation: identity, or softmax under the logistic normal."""
        return torch.softmax(z, dim=-1) if self.config.latent_distribution == "ln" else z

    # Generation

    def decode_genes(self, latent: Tensor, covariates: Covariates) -> tuple[Tensor, Tensor | None]:
        """Log ρ and dropout logits, (..., genes), of transformed latents, (..., latent)."""
        genes: tuple[Tensor, Tensor | None] = self.gene_decoder(latent, covariates)
        return genes

    def decode_proteins(self, latent: Tensor, covariates: Covariates) -> ProteinParameters:
        """Parameters of the protein mixture for transformed latents, (..., latent)."""
        proteins: ProteinParameters = self.protein_decoder(latent, covariates)
        return proteins

    def log_efficiency(self, batch: Tensor) -> Tensor:
        """Log of how efficiently each batch captures each protein, (..., proteins), from one-hot batches."""
        return batch @ self.log_per_batch_efficiency.t()

    def log_size(self, cells: CellBatch, library: Normal | None) -> Tensor:
        """Log of what ρ is multiplied by, (cells, 1): the size factor, or the library, observed or drawn."""
        if self.dims.has_size_factor:
            return cells.size_factor.log()
        if library is None:
            return cells.library.clamp(min=1.0).log()
        return library.sample().clamp(max=_MOST_LOG_LIBRARY)

    def library_prior(self, batch: Tensor) -> Normal:
        """Prior of log ℓ, (cells, 1), from batch codes, (cells,)."""
        return Normal(self.library_log_means[0, batch, None], self.library_log_vars[0, batch, None].sqrt())

    def gene_log_theta(self, covariates: Covariates, labels: Tensor | None = None) -> Tensor:
        """Log inverse dispersion of the genes, (genes,) or (..., genes); ``labels`` as from `label_weights`."""
        return log_dispersion(self.px_r, self.config.gene_dispersion, covariates, labels)

    def protein_log_theta(self, covariates: Covariates, labels: Tensor | None = None) -> Tensor:
        """Log inverse dispersion of the proteins, (proteins,) or (..., proteins)."""
        return log_dispersion(self.py_r, self.config.protein_dispersion, covariates, labels)

    @property
    def has_fixed_shapes(self) -> bool:
        """Whether no tensor's shape depends on the cells of a mini-batch, but for their number and stored counts."""
        return True

    @property
    def genes_stand_apart(self) -> bool:
        """Whether ρ and one dispersion a gene are all that the likelihood of the RNA needs: a thread may compute it."""
        return self.gene_decoder.is_plain and self.config.gene_dispersion == "gene"

    @property
    def needs_label_weights(self) -> bool:
        """Whether a dispersion differs between labels."""
        return per_label(self.config.gene_dispersion) or per_label(self.config.protein_dispersion)

    def label_weights(self, latent: Tensor, label: Tensor) -> Tensor | None:
        """How much each label counts for each cell's dispersion, (..., labels); `None` where none differs by label.

        Parameters
        ----------
        latent
            Transformed latents, (..., latent).
        label
            Codes, (cells,), `UNLABELLED` where there is none.
        """
        if not self.needs_label_weights:
            return None
        known = F.one_hot(label.clamp(min=0), self.dims.n_labels).to(latent.dtype)
        return torch.where((label == UNLABELLED)[:, None], self.label_guess(latent), known)

    def label_guess(self, latent: Tensor) -> Tensor:
        """Probabilities of the labels of cells without one, (..., labels): all alike, totalVI knows no better."""
        return latent.new_full((*latent.shape[:-1], self.dims.n_labels), 1.0 / self.dims.n_labels)

    # Objective

    def forward(self, cells: CellBatch, beside: Executor | None = None) -> ElboTerms:
        """Terms of the ELBO of each cell, with one draw from the posterior.

        Parameters
        ----------
        cells
            A mini-batch.
        beside
            Threads that compute the RNA's part; until its gradient has been computed, that is not a number.
        """
        begun = self._begin(cells, beside)
        inputs = self._read(cells)
        return self._terms(cells, inputs.covariates, [inputs], begun)[0]

    def with_hidden_view(
        self, cells: CellBatch, rates: Augmentation, beside: Executor | None = None
    ) -> tuple[ElboTerms, HiddenTerms]:
        r"""Terms of the ELBO, and what the encoder makes of the same cells when it sees less of them, as of queries.

        .. math::

            \mathrm{KL}(q(z \mid x, y, s) \| q(z \mid \tilde{x}, \tilde{y}))
                - \mathbb{E}_{q(z \mid \tilde{x}, \tilde{y})} \log p(y \mid z, s)

        On average over what is hidden, the first term is least where the partial posterior is the mixture of all full
        posteriors that agree with what is seen: as wide as what RNA leaves open about the proteins. The full posterior
        gets no gradient from it.

        Parameters
        ----------
        cells
            A mini-batch.
        rates
            What to hide.
        beside
            As in `forward`.
        """
        begun = self._begin(cells, beside)
        inputs = self._read(cells)
        views = [hide_batch(inputs, rates.unknown_batch), self.encoder.read_rna(hide(inputs, rates))]
        terms, [hidden] = self._terms(cells, inputs.covariates, views, begun)
        return terms, hidden

    def _begin(self, cells: CellBatch, beside: Executor | None) -> Begun | None:
        """Let a thread beside begin with the RNA's part, where that stands apart."""
        if beside is None or not (self.genes_stand_apart and _in_full_precision_on_a_cpu(cells.protein)):
            return None
        return begin(cells.rna, self.px_r, beside, self.gene_decoder.log_scale.late)

    def _read(self, cells: CellBatch) -> EncoderInputs:
        return self.encoder.read_rna(EncoderInputs.of(cells, self.dims))

    def _terms(
        self, cells: CellBatch, covariates: Covariates, views: Sequence[EncoderInputs], begun: Begun | None = None
    ) -> tuple[ElboTerms, list[HiddenTerms]]:
        """Terms of the first view, and of the others; all are computed together, (views, cells, ...)."""
        q_z, q_library = self.encode(EncoderInputs.stacked(views))
        z = q_z.sample()
        latent = self.transform(z)
        labels = self.label_weights(latent, cells.label)
        posteriors = [Normal(*each) for each in zip(q_z.mean.unbind(), q_z.scale.unbind(), strict=True)]
        first_library = None if q_library is None else Normal(q_library.mean[0], q_library.scale[0])
        first_latent = latent.unbind()[0]

        # First, so that its gradient is asked for last: until then others may compute it.
        gene = self.gene_reconstruction(
            cells,
            first_latent,
            self.log_size(cells, first_library),
            covariates,
            None if labels is None else labels[0],
            begun,
        )
        proteins = self.decode_proteins(latent, covariates.repeated(len(views)))
        protein = self.protein_reconstruction(cells, proteins, covariates, labels).unbind()
        logits = self.label_logits(latent)
        logits_of_views = [None] * len(views) if logits is None else logits.unbind()
        terms = ElboTerms(
            reconstruction_gene=gene,
            reconstruction_protein=protein[0],
            kl_library=None if first_library is None else kl_library(first_library, self.library_prior(cells.batch)),
            kl_background=kl_background(
                Normal(proteins.log_background_mean.unbind()[0], proteins.log_background_scale.unbind()[0]),
                self.background_prior(cells.panel),
                cells.measured,
            ),
            efficiency_penalty=efficiency_penalty(self.log_efficiency(covariates.batch), cells.measured),
            posterior=posteriors[0],
            latent=first_latent,
            **self.latent_terms(posteriors[0], z.unbind()[0], cells.label, logits_of_views[0]),
        )
        target = Normal(*(part.detach() for part in posteriors[0]))
        others = zip(posteriors, protein, logits_of_views, strict=True)
        return terms, [
            HiddenTerms(kl_normals(target, posterior).sum(dim=-1), reconstruction, label_logits)
            for posterior, reconstruction, label_logits in list(others)[1:]
        ]

    def label_logits(self, latent: Tensor) -> Tensor | None:
        """Logits of q(c | z), (cells, labels); totalVI has none."""
        return None

    def background_prior(self, panel: Tensor) -> Normal:
        """Prior of log β, (cells, proteins), from panel codes, (cells,)."""
        # As embeddings: a GPU sums their gradient over cells without sorting codes first.
        mean = F.embedding(panel, self.background_pro_alpha.t())
        return Normal(mean, F.embedding(panel, self.background_pro_log_beta.t()).exp())

    def gene_reconstruction(
        self,
        cells: CellBatch,
        latent: Tensor,
        log_size: Tensor,
        covariates: Covariates,
        labels: Tensor | None,
        begun: Begun | None = None,
    ) -> Tensor:
        """``−log p(x | z, ℓ)``, (cells,)."""
        log_theta = self.gene_log_theta(covariates, labels)
        if self.genes_stand_apart:
            if _in_full_precision_on_a_cpu(latent):
                features, head = self.gene_decoder.features(latent, covariates), self.gene_decoder.log_scale
                return negative_log_probability_of_features(
                    cells.rna, features, head.weight, head.bias, log_size, log_theta, begun
                )
            logits = self.gene_decoder.logits(latent, covariates)
            return -log_negative_binomial_of_shares(cells.rna, logits, log_size, log_theta)
        log_scale, dropout_logits = self.decode_genes(latent, covariates)
        return gene_reconstruction(cells.rna, log_size + log_scale, log_theta, dropout_logits)

    def protein_reconstruction(
        self, cells: CellBatch, proteins: ProteinParameters, covariates: Covariates, labels: Tensor | None
    ) -> Tensor:
        """``−log p(y | z, β)`` of the measured proteins, (..., cells), with one draw of β."""
        return protein_reconstruction(
            cells.protein,
            cells.measured,
            log_background=proteins.sample_log_background() + self.log_efficiency(covariates.batch),
            log_foreground_ratio=proteins.log_foreground_ratio,
            log_theta=self.protein_log_theta(covariates, labels),
            background_logits=proteins.background_logits,
        )

    def latent_terms(self, q_z: Normal, z: Tensor, label: Tensor, logits: Tensor | None) -> dict[str, Tensor]:
        """KL terms of the latent space, here KL(q(z) ‖ N(0, I)); TotalANVI has its own."""
        return {"kl_latent": kl_standard_normal(q_z)}


def _in_full_precision_on_a_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
