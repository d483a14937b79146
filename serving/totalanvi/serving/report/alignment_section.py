"""Which of the query's names are which of the reference's features."""

from __future__ import annotations

from totalanvi.pages.elements import Child, element
from totalanvi.pages.page import Section, paragraph, sideways
from totalanvi.pages.tables import Bar, Cell, count, names_list, share, table
from totalanvi.serving.report.record import AlignmentRecord, FeatureRecord

__all__ = ["alignment_section"]

_MOST_ROWS = 200
"""Names in a table; a JSON report has all."""

_WAYS = {
    "map": "by the table that was given",
    "name": "by the reference's own name",
    "symbol": "by its symbol",
    "ensembl": "by its Ensembl id",
    "spelling": "by the same letters and digits",
    "decoration": "without what vendors and tools add to names",
    "suffix": "without a clone or a number at the end",
}


def alignment_section(alignment: AlignmentRecord) -> Section:
    """Show how names were matched.

    Parameters
    ----------
    alignment
        Of the report.
    """
    kinds = (("Genes", alignment.genes), ("Proteins", alignment.proteins))
    rows: list[list[Cell]] = [
        [name, Bar(found.matched / max(found.matched + found.missing, 1)), found.matched, found.missing, found.extra]
        for name, found in kinds
    ]
    content: list[Child] = [
        paragraph(
            f"Gene names were read from {alignment.gene_names}. The genes that match carry "
            f"{share(alignment.gene_weight)} of what the model has learned from genes, and "
            f"{share(alignment.gene_coverage)} of the counts of an average cell of the reference."
        ),
        table(["Names of", "", "Matched", "Missing in the query", "Only in the query"], rows, spare=(1,)),
        *(paragraph(note, class_="quiet") for note in alignment.notes),
    ]
    for name, found in kinds:
        content += _names(name, found)
    return Section("Genes and proteins matched", content)


def _names(kind: str, found: FeatureRecord) -> list[Child]:
    lower = kind.lower()
    order = ", the most important first" if kind == "Genes" else ""
    ways = [f"{count(number)} {_WAYS.get(way, way)}" for way, number in found.ways.items()]
    return [
        element("h3", kind),
        paragraph(f"Names of {lower} were resolved: {', '.join(ways)}.") if ways else paragraph(f"No {lower} matched."),
        names_list(f"Missing {lower}{order}", found.missing_names, found.missing),
        names_list(f"{kind} that the reference does not know, which were ignored", found.extra_names, found.extra),
        _listed(
            f"{kind} matched by another name",
            found.resolved,
            {"query": "Query", "reference": "Reference", "way": "How"},
        ),
        _listed(f"{kind} left out", found.left_out, {"query": "Query", "reason": "Why", "candidates": "May be"}),
        _listed(f"{kind} summed up", found.summed, {"reference": "Reference", "query": "Query"}),
    ]


def _listed(title: str, columns: dict[str, list[str]], names: dict[str, str]) -> Child:
    values = [columns.get(name, []) for name in names]
    if not all(values):
        return None
    rows: list[list[Cell]] = [list(row) for row in zip(*values, strict=False)]
    if "way" in names:
        rows = [[query, reference, _WAYS.get(str(way), way)] for query, reference, way in rows]
    more = len(rows) - _MOST_ROWS
    return element(
        "details",
        element("summary", f"{title} ({count(len(rows))})"),
        sideways(table(list(names.values()), rows[:_MOST_ROWS]), title),
        paragraph(f"… and {count(more)} more.") if more > 0 else None,
    )
