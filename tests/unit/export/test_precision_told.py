"""What precision costs, in words."""

from __future__ import annotations

from totalanvi.export.precision.told import precision_text
from totalanvi.serving.bundles.precision import Change, ModeCost, PrecisionCost, precision_lines


def test_the_sentence_says_what_changed_and_of_whom() -> None:
    same, worse = Change(before=0.98, after=0.98), Change(before=0.98, after=0.97)

    def found(n_cells: int, changed: float, accuracy: Change | None) -> ModeCost:
        loss = None if accuracy is None else Change(before=0.1, after=0.1)
        return ModeCost(
            n_cells=n_cells, changed=changed, accuracy=accuracy, log_loss=loss, latent_mean=0.01, latent_largest=0.02
        )

    def cost(protein: ModeCost, part: ModeCost, rna: ModeCost) -> PrecisionCost:
        return PrecisionCost(
            precision="int8",
            held_out=True,
            modes={"protein": protein, "part": part, "rna": rna},
            correlation=None,
            count_change=0.003,
            bytes_before=3_400_000,
            bytes_after=1_200_000,
        )

    none = found(0, 0.0, None)
    assert precision_lines(cost(found(100, 0.0, same), found(400, 0.0025, worse), found(100, 0.0, same)))[:4] == [
        "Beside float32, int8 changes the label of at most 0.25% of held-out cells (with part of the panel), lowers "
        "accuracy by at most 1.00 percentage points, and takes 1.2 MB instead of 3.4.",
        "with proteins: 0 of 100 held-out cells get another label; accuracy 0.980 (0.980 in float32), log-loss 0.100 "
        "(0.100 in float32)",
        "with part of the panel: 1 of 400 held-out cells (each counts once for each part of its panel) gets another "
        "label; accuracy 0.970 (0.980 in float32), log-loss 0.100 (0.100 in float32)",
        "from RNA alone: 0 of 100 held-out cells get another label; accuracy 0.980 (0.980 in float32), log-loss 0.100 "
        "(0.100 in float32)",
    ]
    lacking = cost(none, none, found(100, 0.0, same))
    assert precision_lines(lacking)[:2] == [
        "Beside float32, int8 changes no label, lowers accuracy in no query mode, and takes 1.2 MB instead of 3.4.",
        "with proteins: not measured, as no held-out cells can be mapped so",
    ]
    assert "| with proteins | 0 | not measured | not measured |" in precision_text(lacking)
    barely = cost(none, none, found(30_000, 1 / 30_000, Change(before=0.9, after=0.89999)))
    assert precision_lines(barely)[0].startswith(
        "Beside float32, int8 changes the label of at most 0.01% of held-out cells (from RNA alone), lowers accuracy "
        "by at most 0.01 percentage points"
    )
    unlabelled = cost(none, none, found(100, 0.0, None))
    assert precision_lines(unlabelled)[0] == "Beside float32, int8 changes no label, and takes 1.2 MB instead of 3.4."
    assert precision_lines(cost(none, none, none))[0] == (
        "int8 takes 1.2 MB instead of 3.4; what it does to labels was not measured, for want of cells."
    )
