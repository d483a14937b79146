"""`TOTALVI`: register data, train, ask, save."""

from __future__ import annotations

from typing import Any, Literal

from totalanvi.training.models.surgery_methods import QueryMethods
from totalanvi.training.network.config import Dispersion
from totalanvi.training.network.model_options import model_config
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.results.abundance_methods import AbundanceMethods
from totalanvi.training.results.correlation_methods import CorrelationMethods
from totalanvi.training.results.differential.methods import DifferentialMethods
from totalanvi.training.results.expression_methods import ExpressionMethods
from totalanvi.training.results.latent import LatentMethods
from totalanvi.training.results.library import LibraryMethods
from totalanvi.training.results.likelihood import LikelihoodMethods
from totalanvi.training.results.parameters import ParameterMethods
from totalanvi.training.results.predictive import PredictiveMethods

__all__ = ["TOTALVI"]


class TOTALVI(
    LatentMethods,
    LibraryMethods,
    ExpressionMethods,
    DifferentialMethods,
    AbundanceMethods,
    CorrelationMethods,
    LikelihoodMethods,
    ParameterMethods,
    PredictiveMethods,
    QueryMethods,
):
    """Total variational inference: a joint model of RNA and surface-protein counts.

    Parameters
    ----------
    adata
        AnnData or MuData that `setup_anndata` or `setup_mudata` has registered.
    n_latent
        Dimensions of the latent space.
    gene_dispersion
        What a gene's dispersion differs by: ``"gene"``, ``"gene-batch"`` or ``"gene-label"``.
    protein_dispersion
        The same of a protein: ``"protein"``, ``"protein-batch"`` or ``"protein-label"``.
    gene_likelihood
        ``"nb"`` or ``"zinb"``.
    latent_distribution
        ``"normal"`` or ``"ln"``, the logistic normal.
    empirical_protein_background_prior
        Start the prior of the protein background from the data. By default, where there are more than ten proteins.
    override_missing_proteins
        Take zeros as measured, also of a protein that is zero throughout a panel, or of a cell whose proteins all are.
        Otherwise they count as missing there; NaN does either way.
    seed
        Seed of the initial weights.
    **model_kwargs
        Further options: those of `totalanvi.training.ModelConfig`, and the names that scvi-tools has for some of them
        (``use_batch_norm``, ``use_layer_norm``, ``extra_decoder_kwargs``).

    Raises
    ------
    RegistrationError
        When the data is not registered, or cannot be.
    ArgumentError
        For options that are unknown or out of range.

    Examples
    --------
    >>> from totalanvi.training import TOTALVI, simulate
    >>> mdata = simulate(n_cells=500, seed=0)
    >>> TOTALVI.setup_mudata(mdata, batch_key="batch", modalities={"rna_layer": "rna", "protein_layer": "prot"})
    >>> model = TOTALVI(mdata, n_latent=10)
    >>> model.train(max_epochs=5)
    >>> model.get_latent_representation().shape
    (500, 10)

    References
    ----------
    Gayoso, Steier et al.: Joint probabilistic modeling of single-cell multi-omic data with totalVI. Nature Methods 18
    (2021).
    """

    def __init__(
        self,
        adata: Data,
        n_latent: int = 20,
        gene_dispersion: Dispersion = "gene",
        protein_dispersion: Dispersion = "protein",
        gene_likelihood: Literal["nb", "zinb"] = "nb",
        latent_distribution: Literal["normal", "ln"] = "normal",
        empirical_protein_background_prior: bool | None = None,
        override_missing_proteins: bool = False,
        seed: int = 0,
        **model_kwargs: Any,
    ):
        config = model_config(
            n_latent=n_latent,
            gene_dispersion=gene_dispersion,
            protein_dispersion=protein_dispersion,
            gene_likelihood=gene_likelihood,
            latent_distribution=latent_distribution,
            **model_kwargs,
        )
        self._build(adata, config, empirical_protein_background_prior, override_missing_proteins, seed)
        self.history = {}
        self._training = {}
        self._adapted = {}
