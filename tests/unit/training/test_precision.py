"""Training in mixed precision: the network computes in half precision, what it is measured by does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from tests.support.reference_cells import FAST, draw_adata, set_up

from totalanvi.training import TOTALANVI, TOTALVI, ArgumentError

HARDEST: dict[str, Any] = {
    "gene_likelihood": "zinb",
    "gene_dispersion": "gene-label",
    "protein_dispersion": "protein-batch",
    "latent_distribution": "ln",
    "use_batch_norm": "both",
    "use_observed_lib_size": False,
}


def trained(kind: type[TOTALVI], options: dict[str, Any], **training: Any) -> TOTALVI:
    adata = draw_adata(40)
    set_up(adata)
    model = kind(adata, n_latent=3, n_hidden=8, **options)
    model.train(max_epochs=2, adversarial_classifier=True, **training, **FAST)
    return model


@pytest.mark.parametrize("kind", [TOTALVI, TOTALANVI])
@pytest.mark.parametrize("options", [{}, HARDEST], ids=["default", "hardest"])
def test_mixed_precision_trains_nearly_as_single_precision(kind: type[TOTALVI], options: dict[str, Any]) -> None:
    expected = trained(kind, options)
    for precision in ("bf16-mixed", "16-mixed"):  # on a CPU, Lightning takes the first for the second
        model = trained(kind, options, precision=precision)
        for name in ("train_loss", "elbo_train", "reconstruction_loss_gene_validation"):
            # Between 16 bits of precision, and the 8 that a sum in half precision would have.
            np.testing.assert_allclose(model.history[name], expected.history[name], rtol=3e-3)
        assert {weight.dtype for weight in model.module.parameters()} == {torch.float32}
        assert np.isfinite(model.get_latent_representation()).all()


def test_the_gradient_is_limited_at_the_scale_that_it_has() -> None:
    def movement(**options: Any) -> float:
        adata = draw_adata(40)
        set_up(adata)
        model = TOTALVI(adata, n_latent=3, n_hidden=8)
        before = [weight.detach().clone() for weight in model.module.parameters()]
        plan = {
            "optimizer": "Custom",
            "optimizer_creator": lambda parameters: torch.optim.SGD(parameters, lr=1.0),
            "gradient_clip": 0.01,
        }
        model.train(max_epochs=1, plan_kwargs=plan, early_stopping=False, **options, **FAST)
        moved = [weight - other for weight, other in zip(model.module.parameters(), before, strict=True)]
        return float(torch.cat([part.detach().ravel() for part in moved]).norm())

    scaled = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=16.0))
    assert movement() == pytest.approx(0.01, rel=0.01)
    assert movement(plugins=[scaled]) == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true", "transformer-engine", 8])
def test_other_precisions(precision: object) -> None:
    with pytest.raises(ArgumentError, match=r"precision: expected one of 32-true, bf16-mixed, 16-mixed, .+ found"):
        trained(TOTALVI, {}, precision=precision)
