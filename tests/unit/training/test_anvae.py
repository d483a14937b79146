"""The objective of TotalANVI against one written down cell by cell and label by label with `torch.distributions`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.support.tiny_model import N_GENES, N_PROTEINS, tiny_batch, tiny_model
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, NegativeBinomial, Normal, kl_divergence

from totalanvi.training.data import UNLABELLED, CellBatch
from totalanvi.training.network import anvae
from totalanvi.training.network.covariates import Covariates
from totalanvi.training.network.inputs import EncoderInputs
from totalanvi.training.network.labels import pair_labels_evenly

N_LABELS = 3
RTOL = 1e-4


def negative_elbo(model: torch.nn.Module, batch: CellBatch, seed: int) -> Tensor:
    """Brute force: for each cell, one sum over every label it may have.

    Networks are the model's, everything that makes an objective of their outputs is not. Random numbers are drawn in
    the model's order: z and β of all cells, then u of the labelled cells, then u of each label of each unlabelled cell.
    """
    torch.manual_seed(seed)
    n_cells, n_latent = batch.n_cells, model.config.n_latent
    noise_z, noise_beta = torch.randn(n_cells, n_latent), torch.randn(n_cells, N_PROTEINS)
    labelled = [n for n in range(n_cells) if batch.label[n] != UNLABELLED]
    order = [(n, int(batch.label[n])) for n in labelled]
    order += [(n, c) for n in range(n_cells) if n not in labelled for c in range(N_LABELS)]
    noise_u = dict(zip(order, torch.randn(len(order), n_latent), strict=True))

    counts = batch.rna.to_dense()
    inputs = EncoderInputs.of(batch, model.dims)
    q_z_all, _ = model.encode(inputs)
    log_prior = Categorical(logits=model.label_prior_logits).logits
    losses = []
    for n in range(n_cells):
        q_z = Normal(q_z_all.mean[n], q_z_all.scale[n])
        z = q_z.mean + q_z.stddev * noise_z[n]
        covariates = Covariates(inputs.covariates.batch[n])

        log_share, _ = model.decode_genes(z, covariates)
        library = counts[n].sum().clamp(min=1.0)  # one cell is empty
        genes = NegativeBinomial(model.px_r.exp(), logits=library.log() + log_share - model.px_r)
        log_x = genes.log_prob(counts[n]).sum()

        proteins = model.decode_proteins(z, covariates)
        efficiency = model.log_per_batch_efficiency[:, batch.batch[n]]
        q_beta = Normal(proteins.log_background_mean, proteins.log_background_scale)
        log_beta = q_beta.mean + q_beta.stddev * noise_beta[n] + efficiency
        means = torch.stack((log_beta, log_beta + proteins.log_foreground_ratio), dim=-1)
        weights = torch.stack((proteins.background_logits, torch.zeros(N_PROTEINS)), dim=-1)
        mixture = MixtureSameFamily(
            Categorical(logits=weights),
            NegativeBinomial(model.py_r.exp()[:, None], logits=means - model.py_r[:, None]),
        )
        measured = batch.measured[n]
        log_y = mixture.log_prob(batch.protein[n])[measured].sum()
        panel = batch.panel[n]
        prior = Normal(model.background_pro_alpha[:, panel], model.background_pro_log_beta[:, panel].exp())
        kl_beta = kl_divergence(q_beta, prior)[measured].sum()
        penalty = 0.5 * efficiency[measured].square().sum()

        def given(label: int, n: int = n, z: Tensor = z) -> Tensor:
            """log p(z, u, c) − log q(u | z, c), in expectation over u where it has a closed form."""
            code = torch.tensor([label])
            q_u_raw = model.encoder_u(z[None], code)
            q_u = Independent(Normal(q_u_raw.mean[0], q_u_raw.scale[0]), 1)
            u = q_u.mean + q_u.stddev * noise_u[n, label]
            p_z_raw = model.decoder_z(u[None], code)
            p_z = Independent(Normal(p_z_raw.mean[0], p_z_raw.scale[0]), 1)
            standard = Independent(Normal(torch.zeros(len(u)), torch.ones(len(u))), 1)
            return p_z.log_prob(z) - kl_divergence(q_u, standard) + log_prior[label]

        shared = log_x + log_y - kl_beta - penalty - q_z.log_prob(z).sum()
        if batch.label[n] == UNLABELLED:
            q_c = Categorical(logits=model.classify(z[None])[0])
            elbo = sum(q_c.probs[c] * (shared + given(c) - q_c.logits[c]) for c in range(N_LABELS))
        else:
            elbo = shared + given(int(batch.label[n]))
        losses.append(-elbo)
    return torch.stack(losses)


def loss_of(model: torch.nn.Module, batch: CellBatch, seed: int) -> Tensor:
    torch.manual_seed(seed)
    loss: Tensor = model(batch).loss()
    return loss


@pytest.fixture
def batch() -> CellBatch:
    drawn = tiny_batch(N_LABELS)
    known = drawn.label != UNLABELLED
    assert 0 < int(known.sum()) < drawn.n_cells
    return drawn


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_the_objective_is_that_of_brute_force(batch: CellBatch, prior: str) -> None:
    model = tiny_model(N_LABELS, label_prior=prior)
    if prior == "learned":
        torch.nn.init.normal_(model.label_prior_logits)
    with torch.no_grad():
        for seed in (0, 1):
            assert torch.allclose(loss_of(model, batch, seed), negative_elbo(model, batch, seed), rtol=RTOL)


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_its_gradients_are_those_of_brute_force(batch: CellBatch, prior: str) -> None:
    model = tiny_model(N_LABELS, label_prior=prior).double()
    batch = replace(batch, rna=batch.rna.with_values(batch.rna.values.double()), protein=batch.protein.double())
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        ours = torch.autograd.grad(loss_of(model, batch, 0).sum(), list(parameters.values()), allow_unused=True)
        expected = torch.autograd.grad(
            negative_elbo(model, batch, 0).sum(), list(parameters.values()), allow_unused=True
        )
    finally:
        torch.set_default_dtype(before)
    for name, one, other in zip(parameters, ours, expected, strict=True):
        assert one is not None, f"{name} has no gradient"
        assert other is not None, name
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-8), name


def test_a_labelled_cell_pays_for_its_own_label(batch: CellBatch) -> None:
    model = tiny_model(N_LABELS)
    labelled = int(torch.nonzero(batch.label != UNLABELLED)[0])
    losses = []
    for label in range(N_LABELS):
        changed = batch.label.clone()
        changed[labelled] = label
        with torch.no_grad():
            losses.append(loss_of(model, replace(batch, label=changed), seed=3))
    losses = torch.stack(losses)
    assert len(losses[:, labelled].unique()) == N_LABELS
    others = torch.arange(batch.n_cells) != labelled
    assert torch.equal(losses[0, others], losses[1, others])
    assert torch.equal(losses[0, others], losses[2, others])


def test_an_unlabelled_cell_does_not_know_the_labels_of_others(batch: CellBatch) -> None:
    model = tiny_model(N_LABELS)
    known = batch.label != UNLABELLED
    permuted = torch.where(known, (batch.label + 1) % N_LABELS, batch.label)
    with torch.no_grad():
        one, other = (loss_of(model, replace(batch, label=label), seed=3) for label in (batch.label, permuted))
    assert torch.equal(one[~known], other[~known])
    assert (one[known] != other[known]).all()


def test_only_a_learned_prior_is_learned(batch: CellBatch) -> None:
    for prior in ("uniform", "learned"):
        model = tiny_model(N_LABELS, label_prior=prior)
        loss_of(model, batch, seed=0).sum().backward()
        if prior == "uniform":
            assert model.label_prior_logits.grad is None
            assert not model.label_prior_logits.requires_grad
        else:
            assert (model.label_prior_logits.grad.abs() > 1e-4).all()


def test_few_enumerated_labels_give_the_same_objective_on_average() -> None:
    """The same unlabelled cell many times over: enumerating one label of five costs variance alone."""
    n = 4_000
    cell = tiny_batch(5, unlabelled=1.0, n_cells=2)
    one = replace(cell, label=torch.tensor([UNLABELLED, UNLABELLED]))
    many = replace(
        one,
        rna=type(one.rna)(
            row_starts=torch.arange(n + 1) * int(one.rna.row_starts[1]),
            columns=one.rna.columns[: one.rna.row_starts[1]].repeat(n),
            values=one.rna.values[: one.rna.row_starts[1]].repeat(n),
            n_columns=N_GENES,
        ),
        **{name: getattr(one, name)[:1].repeat_interleave(n, 0) for name in ("protein", "measured", "batch", "panel")},
        label=torch.full((n,), UNLABELLED),
    )
    kl = []
    for enumerated in (5, 1):
        model = tiny_model(5, n_enumerated_labels=enumerated)
        torch.nn.init.normal_(model.decoder_z.mean.weight)  # labels that differ much
        with torch.no_grad():
            kl.append(model(many).kl_latent)
    error = sum(values.var() / n for values in kl).sqrt()
    assert kl[1].var() > kl[0].var()
    assert abs(kl[0].mean() - kl[1].mean()) < 4 * error


@pytest.mark.parametrize("linear", [False, True])
def test_the_classifier_gives_one_logit_a_label(batch: CellBatch, linear: bool) -> None:
    model = tiny_model(N_LABELS, linear_classifier=linear)
    terms = model(batch)
    assert terms.label_logits.shape == (batch.n_cells, N_LABELS)
    assert torch.equal(terms.label_logits, model.classify(terms.latent))
    assert any(name.startswith("classifier_trunk.linears") for name in model.state_dict()) is not linear


@pytest.mark.parametrize("options", [{}, {"latent_distribution": "ln", "label_prior": "learned"}])
def test_as_many_pairs_for_each_cell_change_neither_objective_nor_gradients(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # the noise of a pair would depend on its place
    batch = tiny_batch(labels=N_LABELS)
    found = []
    for evenly in (False, True):
        model = tiny_model(N_LABELS, **options)
        if evenly:  # as it is on a GPU
            monkeypatch.setattr(
                anvae, "pair_labels", lambda q, label, n_exact, _: pair_labels_evenly(q, label, n_exact)
            )
        terms = model(batch)
        terms.loss().sum().backward()
        found.append([terms.loss(), *(weight.grad for weight in model.parameters() if weight.grad is not None)])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
