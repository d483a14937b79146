"""The graphs against the module that trained, as torch modules and as ONNX files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from tests.support.tiny_model import TINY, tiny_batch, tiny_model

from totalanvi.export.errors import GraphError
from totalanvi.export.graphs import (
    ClassifierGraph,
    EncoderGraph,
    EncoderPanelGraph,
    EncoderRnaGraph,
    ProteinsGraph,
    graphs_of,
)
from totalanvi.export.onnx import export_graph
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.network.covariates import Covariates
from totalanvi.training.network.dimensions import Dimensions
from totalanvi.training.network.inputs import EncoderInputs, scaled_counts

ODD = {
    "norm_encoder": "batch",
    "norm_decoder": "batch",
    "latent_distribution": "ln",
    "gene_likelihood": "zinb",
    "linear_classifier": True,
    "encode_covariates": False,
    "use_observed_lib_size": False,
}
"""Every option that changes a graph, away from its default."""


def model(dims: Dimensions | None = None, **options: object) -> TotalANVAE:
    module = tiny_model(labels=3, dims=dims, **options)
    assert isinstance(module, TotalANVAE)
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return module


def encoder_feed(module: TotalANVAE) -> tuple[EncoderInputs, dict[str, torch.Tensor]]:
    inputs = EncoderInputs.of(tiny_batch(), module.dims)
    feed = {name: getattr(inputs, name) for name in ("library", "protein", "measured")}
    return inputs, {"rna": inputs.rna.to_dense(), **feed, "batch": inputs.covariates.batch}


def run(file: Path, feed: dict[str, torch.Tensor]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.numpy() for name, value in feed.items()})


@pytest.mark.parametrize("options", [{}, ODD], ids=["default", "odd"])
@torch.inference_mode()
def test_encoder_and_classifier(options: dict[str, object]) -> None:
    module = model(**options)
    inputs, feed = encoder_feed(module)
    z, _ = module.encode(inputs)
    z_mean, z_scale, latent = EncoderGraph(module).eval()(**feed)
    torch.testing.assert_close(z_mean, z.mean)
    torch.testing.assert_close(z_scale, z.scale)
    torch.testing.assert_close(latent, module.transform(z.mean))
    torch.testing.assert_close(ClassifierGraph(module).eval()(latent), module.classify(module.transform(z.mean)))


@pytest.mark.parametrize("options", [{}, ODD], ids=["default", "odd"])
@torch.inference_mode()
def test_proteins_are_averages_over_draws(options: dict[str, object]) -> None:
    module = model(**options)
    z_mean, z_scale = torch.randn(5, 3), torch.rand(5, 3)
    noise, batch = torch.randn(4, 3), torch.tensor([[0.0, 1.0]])
    denoised, expected, foreground = ProteinsGraph(module).eval()(z_mean, z_scale, noise, batch)
    covariates = Covariates(batch.expand(5, 2))
    each = [module.decode_proteins(module.transform(z_mean + z_scale * draw), covariates) for draw in noise]
    torch.testing.assert_close(denoised, torch.stack([p.denoised() for p in each]).mean(dim=0))
    torch.testing.assert_close(foreground, torch.stack([p.foreground_probability for p in each]).mean(dim=0))
    efficiency = module.log_per_batch_efficiency[:, 1]
    torch.testing.assert_close(expected, torch.stack([p.expected(efficiency) for p in each]).mean(dim=0))


@torch.inference_mode()
def test_expectations_are_those_of_the_distributions() -> None:
    """What is counted on average, by drawing background, component and count."""
    torch.manual_seed(0)
    module = model()
    z, batch = torch.randn(1, 3), torch.tensor([[1.0, 0.0]])
    denoised, expected, _ = ProteinsGraph(module).eval()(z, torch.ones(1, 3), torch.zeros(1, 3), batch)
    p = module.decode_proteins(z, Covariates(batch))
    n_draws = 200_000
    background = torch.distributions.LogNormal(p.log_background_mean, p.log_background_scale).sample((n_draws,))
    is_foreground = torch.bernoulli(p.foreground_probability.expand(n_draws, 1, -1))
    ratio = p.log_foreground_ratio.exp()
    efficiency = module.log_efficiency(batch).exp()
    torch.testing.assert_close(denoised, (is_foreground * ratio * background).mean(dim=0), rtol=0.05, atol=0.05)
    counted = efficiency * background * torch.where(is_foreground == 1, ratio, 1.0)
    torch.testing.assert_close(expected, counted.mean(dim=0), rtol=0.05, atol=0.05)


@pytest.fixture(scope="module")
def odd_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[TotalANVAE, dict[str, Path]]:
    module = model(**ODD)
    folder = tmp_path_factory.mktemp("odd")
    return module, {graph.signature.file: export_graph(graph, folder) for graph in graphs_of(module)}


@torch.inference_mode()
def test_files_compute_what_the_modules_do(odd_files: tuple[TotalANVAE, dict[str, Path]]) -> None:
    """With batch norm, whose statistics are per feature and not per draw; for one cell, and for one draw."""
    module, files = odd_files
    _, feed = encoder_feed(module)
    encoder, classifier, proteins, *_ = graphs_of(module)
    for n_cells, n_samples in ((len(feed["rna"]), 5), (1, 1)):
        cells = {name: value[:n_cells] for name, value in feed.items()}
        z_mean, z_scale, latent = encoder(**cells)
        posterior = {"z_mean": z_mean, "z_scale": z_scale}
        draws = {"noise": torch.randn(n_samples, 3), "batch": torch.tensor([[0.0, 1.0]])}
        scaled = scaled_counts(cells["rna"], cells["library"], module.dims.n_genes)
        after_rna = {"from_rna": module.encoder.rna_in(scaled)} | {n: v for n, v in cells.items() if n != "rna"}
        for found, expected in (
            (run(files["encoder_rest.onnx"], after_rna), (z_mean, z_scale, latent)),
            (run(files["encoder.onnx"], cells), (z_mean, z_scale, latent)),
            (run(files["classifier.onnx"], {"latent": latent}), (classifier(latent),)),
            (run(files["proteins.onnx"], posterior | draws), proteins(**posterior, **draws)),
        ):
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"n_layers_encoder": 2}, ODD], ids=["default", "two layers", "odd"])
@pytest.mark.parametrize("measures", [True, False])
@torch.inference_mode()
def test_cells_of_one_panel(tmp_path: Path, options: dict[str, object], measures: bool) -> None:
    """Covariates other than the batch are the usual ones, of which there are some here."""
    module = model(dims=replace(TINY, n_labels=3, n_categories=(2, 3), n_continuous=2), **options)
    for usual in (module.usual_covariates.categorical, module.usual_covariates.continuous):
        assert usual is not None
        usual.uniform_(0.1, 0.9)
    cells, panel = tiny_batch(), torch.tensor([[1.0, 0.0, 1.0, 1.0]]) * measures
    rna, protein = cells.rna.to_dense(), cells.protein * panel
    measured, batch = panel.expand_as(protein), torch.zeros(len(rna), module.dims.n_batches)
    *_, latent = EncoderGraph(module).eval()(rna, cells.library, protein, measured, batch)
    from_rna = module.encoder.rna_in(scaled_counts(rna, cells.library, module.dims.n_genes))
    file = export_graph(EncoderPanelGraph(module).eval(), tmp_path)
    for n_cells in (len(rna), 1):
        (found,) = run(file, {"from_rna": from_rna[:n_cells], "protein": protein[:n_cells], "panel": panel})
        np.testing.assert_allclose(found, latent[:n_cells].numpy(), rtol=1e-5, atol=1e-6)
    if not measures:
        (found,) = run(export_graph(EncoderRnaGraph(module).eval(), tmp_path), {"from_rna": from_rna})
        np.testing.assert_allclose(found, latent.numpy(), rtol=1e-5, atol=1e-6)


def test_an_input_that_is_not_needed_stays(odd_files: tuple[TotalANVAE, dict[str, Path]]) -> None:
    """The encoder of this model does not see the batch, but serving feeds it all the same."""
    module, files = odd_files
    assert not module.config.encode_covariates
    names = [node.name for node in onnx.load(files["encoder.onnx"]).graph.input]
    assert names == ["rna", "library", "protein", "measured", "batch"]
    _, feed = encoder_feed(module)
    with_batch, without = (run(files["encoder.onnx"], feed | {"batch": k * feed["batch"]}) for k in (1, 0))
    np.testing.assert_array_equal(with_batch[0], without[0])


@torch.inference_mode()
def test_a_cell_without_counts_is_finite() -> None:
    module = model()
    _, feed = encoder_feed(module)
    z_mean, z_scale, _ = EncoderGraph(module).eval()(**{name: 0 * value for name, value in feed.items()})
    assert torch.isfinite(z_mean).all()
    assert torch.isfinite(z_scale).all()


def test_weights_keep_their_names_and_files_tell_nothing_of_this_machine(checkpoint: Path, bundle: Path) -> None:
    """Serving may read the first layer's weight from the file by its name."""
    from totalanvi.training import TOTALANVI

    encoder = onnx.load(bundle / "encoder.onnx")
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in encoder.graph.initializer}
    module = TOTALANVI.load(checkpoint).module
    np.testing.assert_array_equal(weights["encoder.rna_in.weight"], module.encoder.rna_in.weight.detach().numpy())
    for file in bundle.glob("*.onnx"):
        content = file.read_bytes()
        assert b"site-packages" not in content
        assert str(Path(__file__).parents[3]).encode() not in content
    assert encoder.opset_import[0].version == 18


def test_a_graph_with_other_outputs_is_refused(tmp_path: Path) -> None:
    class Talkative(ClassifierGraph):
        def forward(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return super().forward(latent), 2 * latent

    with pytest.raises(GraphError, match=r"classifier.onnx: expected the outputs \['logits'\], found \['logits', "):
        export_graph(Talkative(model()).eval(), tmp_path)
    assert not list(tmp_path.iterdir())
