"""What became of a query's file, for whoever asked for it to be mapped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from totalanvi.serving.alignment.report import AlignmentReport
from totalanvi.serving.mapped import MapOptions

__all__ = ["MapSummary", "mapped_line", "summary_lines"]


@dataclass(frozen=True)
class MapSummary:
    """What became of a query's file.

    Parameters
    ----------
    output
        Where the results are.
    n_cells, n_without_rna
        Cells of the query, and those among them that could not be mapped.
    n_with_proteins
        Cells that were mapped with proteins that were measured.
    n_unknown
        Cells more novel than cells like the reference's are, whatever label they keep.
    options
        How it was mapped.
    labels
        Number of cells of each label, most frequent first.
    alignment
        How the query's features were matched.
    messages
        What the user should know.
    notes
        What was done that the user may not expect.
    seconds
        Wall time, opening the reference aside.
    """

    output: Path
    n_cells: int
    n_without_rna: int
    n_with_proteins: int
    n_unknown: int
    options: MapOptions
    labels: dict[str, int]
    alignment: AlignmentReport
    messages: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float


def mapped_line(n_cells: int, n_without_rna: int, n_with_proteins: int) -> str:
    """Say how many cells were mapped, and how many of them with proteins where that is neither all nor none.

    Examples
    --------
    >>> mapped_line(5_000, 0, 0), mapped_line(5_000, 12, 1_200)
    ('Cells:      5,000 mapped', 'Cells:      4,988 mapped, 1,200 of them with proteins; 12 without RNA')
    """
    n_mapped = n_cells - n_without_rna
    with_proteins = f", {n_with_proteins:,} of them with proteins" if 0 < n_with_proteins < n_mapped else ""
    without_rna = f"; {n_without_rna:,} without RNA" if n_without_rna else ""
    return f"Cells:      {n_mapped:,} mapped{with_proteins}{without_rna}"


def summary_lines(summary: MapSummary) -> list[str]:
    """Say it in a few lines, for a terminal."""
    mapped = summary.n_cells - summary.n_without_rna
    genes, proteins = summary.alignment.genes, summary.alignment.proteins
    rate = f", {mapped / summary.seconds:,.0f} cells/s" if summary.seconds > 0 else ""
    labels = ", ".join(f"{label} {n_cells:,}" for label, n_cells in summary.labels.items())
    return [
        mapped_line(summary.n_cells, summary.n_without_rna, summary.n_with_proteins),
        f"Labels:     {labels}",
        f"Unknown:    {summary.n_unknown:,} cells, more novel than all but "
        f"{summary.options.false_positive_rate:.2%} of cells like the reference's"
        + (", which keep their likeliest label" if summary.options.keep_unknown_labels else ""),
        f"Alignment:  {genes.matched:,} of {genes.matched + genes.missing:,} genes by "
        f"{summary.alignment.gene_names}, which carry {summary.alignment.gene_weight:.1%} of the model's weight; "
        f"{proteins.matched:,} of {proteins.matched + proteins.missing:,} proteins",
        f"Time:       {summary.seconds:.1f} s{rate}",
        f"Output:     {summary.output}",
    ]
