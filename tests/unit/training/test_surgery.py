"""Architecture surgery: a query's batches get room of their own, and the reference stays what it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from tests.support.reference_cells import FAST

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training import TOTALANVI, TOTALVI, simulate
from totalanvi.training.errors import ArgumentError, RegistrationError
from totalanvi.training.registration.query_features import with_features

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "batch norm": {"use_batch_norm": "both"},
    "inferred library": {"use_observed_lib_size": False, "gene_likelihood": "zinb"},
    "dispersion by batch": {"gene_dispersion": "gene-batch", "protein_dispersion": "protein-batch"},
    "covariates not encoded": {"encode_covariates": False},
}


def reference_adata() -> ad.AnnData:
    mdata = simulate(n_cells=200, n_genes=60, n_proteins=8, n_labels=3, n_batches=2, seed=1)
    adata = mdata["rna"].copy()
    adata.obsm["protein"] = pd.DataFrame(
        np.asarray(mdata["prot"].X.todense() if sp.issparse(mdata["prot"].X) else mdata["prot"].X),
        index=mdata["prot"].obs_names,
        columns=mdata["prot"].var_names,
    ).loc[adata.obs_names]
    return adata


def query_adata(*batches: str) -> ad.AnnData:
    """Cells of the same tissue under other batch names."""
    query = reference_adata()
    names = batches or ("new1", "new2")
    query.obs["batch"] = pd.Categorical(np.resize(names, query.n_obs))
    return query


@pytest.fixture(scope="module", params=OPTIONS, ids=str)
def reference(request: pytest.FixtureRequest) -> TOTALANVI:
    adata = reference_adata()
    TOTALANVI.setup_anndata(adata, "protein", batch_key="batch", labels_key="cell_type", unlabeled_category="unknown")
    model = TOTALANVI(adata, n_latent=4, n_hidden=16, **OPTIONS[request.param])
    model.train(max_epochs=3, batch_size=64, **FAST)
    return model


@pytest.fixture(scope="module")
def simple(tmp_path_factory: pytest.TempPathFactory) -> tuple[TOTALANVI, Path]:
    adata = reference_adata()
    TOTALANVI.setup_anndata(adata, "protein", batch_key="batch", labels_key="cell_type")
    model = TOTALANVI(adata, n_latent=4, n_hidden=16)
    model.train(max_epochs=3, batch_size=64, **FAST)
    folder = tmp_path_factory.mktemp("reference") / "checkpoint"
    model.save(folder)
    return model, folder


def outputs(model: TOTALANVI, adata: ad.AnnData) -> list[np.ndarray]:
    """Latent, labels and decoded means of the reference's cells, without draws."""
    torch.manual_seed(0)
    genes, proteins = model.get_normalized_expression(adata, include_protein_background=True, return_numpy=True)
    return [model.get_latent_representation(adata, mc_samples=100), model.predict(adata, soft=True), genes, proteins]


def test_training_on_a_query_leaves_the_reference_as_it_was(reference: TOTALANVI) -> None:
    """Bit by bit in the weights, to rounding in what comes out; and yet the query's own parts are trained."""
    before = {name: value.clone() for name, value in reference.module.state_dict().items()}
    expected = outputs(reference, reference.adata)
    model = TOTALANVI.load_query_data(query_adata(), reference)
    start = {name: value.clone() for name, value in model.module.state_dict().items()}
    # Weight decay would change what gets no gradient, if it were let.
    model.train(max_epochs=3, batch_size=64, plan_kwargs={"weight_decay": 0.1}, **FAST)

    assert all(torch.equal(value, before[name]) for name, value in reference.module.state_dict().items())
    after = model.module.state_dict()
    parts = model.module.trained_parts
    assert parts
    for name, value in after.items():
        kept = ~parts[name] if name in parts else torch.ones_like(value, dtype=torch.bool)
        assert torch.equal(value[kept], start[name][kept]), name
    for name in parts:
        if "background_pro" not in name or model.module.dims.n_panels > 2:
            assert not torch.equal(after[name], start[name]), f"{name} was not trained"
    for found, wanted in zip(outputs(model, reference.adata), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_what_is_trained_is_what_belongs_to_the_new_batches(simple: tuple[TOTALANVI, Path]) -> None:
    reference, _ = simple
    model = TOTALANVI.load_query_data(query_adata("new1", "batch1"), reference)
    assert model.registry.batches == (*reference.registry.batches, "new1")
    hidden, injected = model.module.config.n_hidden, model.module.dims.n_injected
    mask = model.module.trained_parts["gene_decoder.log_scale.weight"]
    assert mask.shape == (60, hidden + 4 + injected)
    assert mask[:, -1].all()
    assert mask.sum() == 60
    assert not model.module.classifier.weight.requires_grad
    assert not model.module.encoder.z_mean.weight.requires_grad
    assert model.module.background_pro_alpha.requires_grad


def test_surgery_trains_in_training_mode(simple: tuple[TOTALANVI, Path]) -> None:
    """With dropout, unlike in scvi-tools, where a query's model stays in evaluation mode; frozen batch norm aside."""
    modes = set()
    model = TOTALANVI.load_query_data(query_adata(), simple[0])
    hook = model.module.encoder.trunk.dropout.register_forward_hook(lambda module, *_: modes.add(module.training))
    model.train(max_epochs=1, early_stopping=False, reduce_lr_on_plateau=False, train_size=1.0, **FAST)
    hook.remove()
    assert modes == {True}


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    adata = reference_adata()
    TOTALVI.setup_anndata(adata, "protein", batch_key="batch")
    reference = TOTALVI(adata, n_latent=4, n_hidden=16, use_batch_norm="both")
    reference.train(max_epochs=1, **FAST)
    frozen = TOTALVI.load_query_data(query_adata(), reference)
    free = TOTALVI.load_query_data(query_adata(), reference, freeze_batchnorm_decoder=False)
    name = "gene_decoder.trunk.norms.0.running_mean"
    for model in (frozen, free):
        model.train(max_epochs=1, **FAST)
    assert torch.equal(frozen.module.state_dict()[name], reference.module.state_dict()[name])
    assert not torch.equal(free.module.state_dict()[name], reference.module.state_dict()[name])


@pytest.mark.parametrize(
    ("freezing", "trained"),
    [
        ({"freeze_classifier": False}, "classifier.weight"),
        ({"freeze_expression": False}, "encoder.rna_in.weight"),
        ({"freeze_decoder_first_layer": False}, "gene_decoder.trunk.linears.0.weight"),
        ({"unfrozen": True}, "encoder.z_mean.weight"),
    ],
)
def test_what_is_set_free_is_trained(simple: tuple[TOTALANVI, Path], freezing: dict[str, bool], trained: str) -> None:
    reference, _ = simple
    model = TOTALANVI.load_query_data(query_adata(), reference, **freezing)
    model.train(max_epochs=1, **FAST)
    old = reference.module.state_dict()[trained]
    new = model.module.state_dict()[trained][:, : old.shape[1] - 2]
    assert not torch.equal(new, old[:, : old.shape[1] - 2])


def test_dropout_may_be_left_out(simple: tuple[TOTALANVI, Path]) -> None:
    model = TOTALANVI.load_query_data(query_adata(), simple[0], freeze_dropout=True)
    assert {layer.p for layer in model.module.modules() if isinstance(layer, torch.nn.Dropout)} == {0.0}


def test_a_query_without_proteins(simple: tuple[TOTALANVI, Path]) -> None:
    query = query_adata()
    del query.obsm["protein"]
    model = TOTALANVI.load_query_data(query, simple[1])
    model.train(max_epochs=2, **FAST)
    assert not model.registry.panel_mask()[2:].any()
    assert len(model.predict()) == query.n_obs
    _, proteins = model.get_normalized_expression(transform_batch="batch1")
    assert proteins.shape == (query.n_obs, 8)
    assert np.isfinite(proteins.to_numpy()).all()


def test_a_query_with_another_panel(simple: tuple[TOTALANVI, Path]) -> None:
    query = query_adata()
    table = query.obsm["protein"].iloc[:, [5, 2, 0]]
    query.obsm["protein"] = table.assign(never_seen=3)
    with pytest.warns(UserWarning, match="never_seen"):
        model = TOTALANVI.load_query_data(query, simple[1])
    measured = model.registry.panel_mask()[2:]
    assert measured[:, [0, 2, 5]].all()
    assert measured.sum() == 6
    assert np.array_equal(model._cells.protein[:, [5, 2, 0]], table.to_numpy())
    model.train(max_epochs=1, **FAST)


def test_a_query_in_another_order_of_genes_is_the_same_query(simple: tuple[TOTALANVI, Path]) -> None:
    query = query_adata()
    shuffled = query[:, np.random.default_rng(0).permutation(query.n_vars)].copy()
    one, other = (TOTALANVI.load_query_data(each, simple[0]) for each in (query, shuffled))
    np.testing.assert_array_equal(one.predict(soft=True), other.predict(soft=True))


def test_new_batches_may_be_forbidden(simple: tuple[TOTALANVI, Path]) -> None:
    reference, _ = simple
    known = TOTALANVI.load_query_data(query_adata("batch1"), reference, transfer_batch=False)
    assert known.registry.batches == reference.registry.batches
    with pytest.raises(ArgumentError, match=r"transfer_batch=False: expected batches of the .*, found new1; rename"):
        TOTALANVI.load_query_data(query_adata("batch1", "new1"), reference, transfer_batch=False)


def test_labels_of_a_query_are_used_if_it_has_any(simple: tuple[TOTALANVI, Path]) -> None:
    query = query_adata()
    query.obs["cell_type"] = query.obs["cell_type"].astype(str)
    labelled = TOTALANVI.load_query_data(query, simple[0])
    assert labelled.n_labelled == query.n_obs
    del query.obs["cell_type"]
    assert TOTALANVI.load_query_data(query, simple[0]).n_labelled == 0


def test_a_query_with_nothing_new(simple: tuple[TOTALANVI, Path]) -> None:
    query = query_adata("batch1", "batch2")
    model = TOTALANVI.load_query_data(query, simple[0])
    with pytest.warns(UserWarning, match="[Nn]othing to train"):
        model.train(max_epochs=2, **FAST)
    assert model.is_trained
    np.testing.assert_allclose(model.predict(soft=True), simple[0].predict(query, soft=True), atol=1e-6)


def test_adapting_brings_the_query_closer_to_the_reference_than_its_batch_allows() -> None:
    """A query whose genes are captured unevenly: its own batch explains that after training, and the ELBO says so."""
    adata = reference_adata()
    TOTALVI.setup_anndata(adata, "protein", batch_key="batch")
    reference = TOTALVI(adata, n_latent=4, n_hidden=16)
    reference.train(max_epochs=15, batch_size=64, **FAST)
    query = query_adata("new1")
    rng = np.random.default_rng(0)
    kept = rng.binomial(query.X.toarray().astype(int), rng.uniform(0.1, 1.0, query.n_vars))
    query.X = sp.csr_matrix(kept.astype(np.float32))
    model = TOTALVI.load_query_data(query, reference)
    before = reconstruction(model)
    model.train(max_epochs=30, batch_size=64, lr=0.05, **FAST)
    # Adapting is worth 1 nat, where it was 2 to 3 before latents began spread: the reference decodes the query better.
    assert reconstruction(model) < before - 0.5


def reconstruction(model: TOTALVI) -> float:
    """−log p(x | z) of a cell."""
    with torch.no_grad():
        return float(model.module.eval()(model._cells.to_batch()).reconstruction_gene.mean())


def test_an_adapted_model_is_saved_loaded_and_trained_on(simple: tuple[TOTALANVI, Path], tmp_path: Path) -> None:
    query = query_adata()
    model = TOTALANVI.load_query_data(query, simple[1])
    model.train(max_epochs=1, **FAST)
    model.save(tmp_path / "adapted")
    again = TOTALANVI.load(tmp_path / "adapted", adata=query)
    np.testing.assert_array_equal(again.predict(soft=True), model.predict(soft=True))
    assert again.module.trained_parts.keys() == model.module.trained_parts.keys()
    before = {name: value.clone() for name, value in again.module.state_dict().items()}
    again.train(max_epochs=1, **FAST)
    for name, value in again.module.state_dict().items():
        mask = again.module.trained_parts.get(name, torch.zeros_like(value, dtype=torch.bool))
        assert torch.equal(value[~mask], before[name][~mask]), name


@pytest.mark.parametrize("freeze_dropout", [False, True])
def test_what_is_frozen_is_so_after_loading(tmp_path: Path, freeze_dropout: bool) -> None:
    """Batch norms would otherwise take up the query's statistics, and change what the reference decodes to."""
    adata = reference_adata()
    TOTALVI.setup_anndata(adata, "protein", batch_key="batch")
    reference = TOTALVI(adata, n_latent=4, n_hidden=16, use_batch_norm="both")
    reference.train(max_epochs=1, **FAST)
    query = query_adata()
    adapted = TOTALVI.load_query_data(query, reference, freeze_dropout=freeze_dropout)
    adapted.save(tmp_path / "saved")
    loaded = TOTALVI.load(tmp_path / "saved", adata=query)
    modes, rates = [], []
    for model in (adapted, loaded):
        model.module.train()
        modes.append({name: layer.training for name, layer in model.module.named_modules()})
        rates.append([layer.p for layer in model.module.modules() if isinstance(layer, torch.nn.Dropout)])
    assert modes[0] == modes[1]
    assert not all(modes[0].values())
    assert rates[0] == rates[1]
    assert (set(rates[1]) == {0.0}) == freeze_dropout
    loaded.train(max_epochs=1, **FAST)
    name = "gene_decoder.trunk.norms.0.running_mean"
    assert torch.equal(loaded.module.state_dict()[name], reference.module.state_dict()[name])


def test_preparing_pads_and_sorts() -> None:
    query = query_adata()
    names = pd.Index(["absent", *query.var_names[::-1][:50]])
    query.layers["counts"] = query.X.copy()
    expected = query[:, names[1:]].X.toarray()

    prepared = with_features(query, names)
    for counts in (prepared.X, prepared.layers["counts"]):
        assert sp.issparse(counts)
        np.testing.assert_array_equal(counts.toarray()[:, 1:], expected)
        assert not counts[:, 0].toarray().any()
    assert query.n_vars == 60
    assert prepared.obs.equals(query.obs)


def test_preparing_in_place_and_asking_for_names(simple: tuple[TOTALANVI, Path]) -> None:
    reference, folder = simple
    genes = TOTALANVI.prepare_query_anndata(reference.adata, folder, return_reference_var_names=True)
    assert list(genes) == list(reference.registry.genes)
    query = query_adata()[:, 5:].copy()
    with pytest.raises(RegistrationError, match="5 missing"):
        TOTALANVI.load_query_data(query.copy(), reference)
    assert TOTALANVI.prepare_query_anndata(query, reference) is None
    assert list(query.var_names) == list(genes)
    TOTALANVI.load_query_data(query, reference)


def test_preparing_a_query_with_few_genes_of_the_reference(simple: tuple[TOTALANVI, Path]) -> None:
    query = query_adata()[:, :20].copy()
    with pytest.warns(UserWarning, match="has 20 of the reference's 60 genes"):
        TOTALANVI.prepare_query_anndata(query.copy(), simple[0])
    query.var_names = [f"ENSG{i:011d}" for i in range(20)]
    with pytest.raises(RegistrationError, match=r"found none of them among the query's \(.*, … \(20 in all\)\); give"):
        TOTALANVI.prepare_query_anndata(query, simple[0])


def test_preparing_a_mudata(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    with not_pulling():
        query = md.MuData(
            {"rna": reference_mdata["rna"][:, 10:].copy(), "prot": reference_mdata["prot"][:, ::-1].copy()}
        )
    query["rna"].obs["batch"] = "new"
    names = TOTALANVI.prepare_query_mudata(query, trained, return_reference_var_names=True)
    assert {modality: len(index) for modality, index in names.items()} == {"rna": 160, "prot": 12}
    assert TOTALANVI.prepare_query_mudata(query, trained) is None
    assert list(query["rna"].var_names) == list(trained.registry.genes)
    assert not query["rna"].X[:, :10].toarray().any()
    assert list(query["prot"].var_names) == list(trained.registry.proteins)
    model = TOTALANVI.load_query_data(query, trained)
    assert model.registry.batches == (*trained.registry.batches, "new")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"adata": None}, ArgumentError, r"found no query \(adata\); give both"),
        ({"reference_model": None}, ArgumentError, "found no reference_model; give both"),
        ({"registry": {}}, ArgumentError, "registry: expected a query with its cells"),
        ({"reference_model": "nowhere/"}, ValueError, "Expected a checkpoint at nowhere, found no such folder"),
    ],
)
def test_what_cannot_be_adapted(
    simple: tuple[TOTALANVI, Path], arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        TOTALANVI.load_query_data(**{"adata": query_adata(), "reference_model": simple[0], **arguments})


def test_a_reference_that_is_not_trained_cannot_be_adapted() -> None:
    adata = reference_adata()
    TOTALVI.setup_anndata(adata, "protein", batch_key="batch")
    with pytest.raises(ArgumentError, match="Expected a trained reference model, found one that is not"):
        TOTALVI.load_query_data(query_adata(), TOTALVI(adata, n_latent=4, n_hidden=16))


def test_a_copy_of_an_adapted_model_keeps_its_reference_too(simple: tuple[TOTALANVI, Path]) -> None:
    model = copy.deepcopy(TOTALANVI.load_query_data(query_adata(), simple[0]))
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    model.train(max_epochs=1, batch_size=64, plan_kwargs={"weight_decay": 0.0}, **FAST)
    after = model.module.state_dict()
    assert any(not torch.equal(after[name], value) for name, value in before.items())
    for name, trained in model.module.trained_parts.items():
        assert torch.equal(after[name][~trained], before[name][~trained]), name


def test_a_model_that_is_adapted_and_not_trained_remembers_its_reference(
    simple: tuple[TOTALANVI, Path], tmp_path: Path
) -> None:
    reference, _ = simple
    TOTALANVI.load_query_data(query_adata(), reference).save(tmp_path / "adapted")
    loaded = TOTALANVI.load(tmp_path / "adapted", adata=query_adata())
    assert not loaded.is_trained
    loaded.train(max_epochs=1, batch_size=64, **FAST)
    assert loaded._training["data_digest"] == reference._training["data_digest"]
    assert loaded._training["adapted_to"]["n_cells"] == 200


def test_a_query_that_is_set_up_for_another_model_is_refused(simple: tuple[TOTALANVI, Path]) -> None:
    query = query_adata()
    query.obs["site"] = "here"
    TOTALANVI.setup_anndata(query, "protein", batch_key="site", labels_key="cell_type")
    with pytest.raises(RegistrationError, match="batch_key='batch', found batch_key='site'"):
        TOTALANVI.load_query_data(query, simple[0])


@pytest.mark.parametrize(("kind", "other"), [(TOTALVI, TOTALANVI), (TOTALANVI, TOTALVI)])
def test_a_reference_of_the_other_class_is_refused(kind: type[TOTALVI], other: type[TOTALVI]) -> None:
    adata = reference_adata()
    other.setup_anndata(adata, "protein", batch_key="batch", labels_key="cell_type")
    model = other(adata, n_latent=2, n_hidden=8)
    model.train(max_epochs=1, batch_size=64, **FAST)
    expected = rf"expected a {kind.__name__}, found a {other.__name__}; call {other.__name__}\.load_query_data"
    with pytest.raises(ArgumentError, match=expected):
        kind.load_query_data(query_adata(), model)
