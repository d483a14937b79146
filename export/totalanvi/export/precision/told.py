"""What a bundle says to people of its precision: in its model card, and on its page."""

from __future__ import annotations

from totalanvi.pages.page import Section, paragraph, sideways
from totalanvi.pages.tables import Cell, count, table
from totalanvi.serving.bundles.modes import MODE_NAMES
from totalanvi.serving.bundles.precision import Change, ModeCost, PrecisionCost, precision_summary

__all__ = ["precision_section", "precision_text"]

_COLUMNS = [
    *("Query", "Cells", "Other label", "Accuracy", "in float32", "Log-loss", "in float32"),
    *("Latent moves, mean", "Latent moves, most"),
]

_NOT_MEASURED = "not measured"


def precision_text(cost: PrecisionCost) -> str:
    """Write the part of a model card, in Markdown.

    Parameters
    ----------
    cost
        Of the bundle.
    """
    lines = [_COLUMNS, ["---"] * len(_COLUMNS), *([str(cell) for cell in row] for row in _rows(cost))]
    return f"{_words(cost)}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def precision_section(cost: PrecisionCost) -> Section:
    """Write the part of a bundle's page.

    Parameters
    ----------
    cost
        Of the bundle.
    """
    told = sideways(table(_COLUMNS, _rows(cost)), "What precision costs in each query mode")
    return Section("Precision", [paragraph(_words(cost)), told])


def _words(cost: PrecisionCost) -> str:
    cells = "held-out" if cost.held_out else "training"
    proteins = ""
    if cost.correlation is not None:
        before, after = _figures(cost.correlation)
        proteins = f", and their mean correlation with measured ones is {after}, {before} in float32"
    return (
        f"This bundle is in {cost.precision}. {precision_summary(cost)} Its {cells} cells were mapped in both; with "
        "part of the panel, each counts once for each part that was tried. Imputed counts change by "
        f"{cost.count_change:.2%}, the median over cells and proteins{proteins}. How far the latent moves is a share "
        "of the distance between near landmarks."
    )


def _rows(cost: PrecisionCost) -> list[list[Cell]]:
    return [_row(MODE_NAMES[mode], found) for mode, found in cost.modes.items()]


def _row(name: str, found: ModeCost) -> list[Cell]:
    if not found.n_cells:
        return [name, count(0), *[_NOT_MEASURED] * (len(_COLUMNS) - 2)]
    return [
        name,
        count(found.n_cells),
        f"{found.changed:.2%}",
        *reversed(_figures(found.accuracy)),
        *reversed(_figures(found.log_loss)),
        f"{found.latent_mean:.2%}",
        f"{found.latent_largest:.2%}",
    ]


def _figures(change: Change | None) -> tuple[str, str]:
    return ("unknown", "unknown") if change is None else (f"{change.before:.3f}", f"{change.after:.3f}")
