"""The page about a mapped query, put together from its sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.pages.citation import citation
from totalanvi.pages.elements import Child
from totalanvi.pages.page import Section, notices, page, paragraph
from totalanvi.pages.tables import count, share
from totalanvi.serving.outputs.novelty_notes import many_unknown_messages
from totalanvi.serving.report.alignment_section import alignment_section
from totalanvi.serving.report.cell_sections import certainty_section, map_section, novelty_section, types_section
from totalanvi.serving.report.origin_section import origin_section
from totalanvi.serving.report.protein_section import protein_section
from totalanvi.serving.report.record import MappingRecord
from totalanvi.serving.report.tally import Tally

__all__ = ["QueryReport", "query_page"]


@dataclass(frozen=True, eq=False)
class QueryReport:
    """What a page about a mapped query says.

    Parameters
    ----------
    query
        Name of the query's file, or of the output that the report is made from.
    record
        Where the results come from.
    labels, proteins
        The reference's names, in model order; no proteins where none were imputed.
    tally
        Counts over the cells, of these labels and proteins.
    messages
        What the user was warned of.
    landmarks
        Places of the reference's own cells on its map, (landmarks, 2), where these are at hand.
    """

    query: str
    record: MappingRecord
    labels: Sequence[str]
    proteins: Sequence[str]
    tally: Tally
    messages: Sequence[str]
    landmarks: npt.NDArray[np.float32] | None = None


def query_page(report: QueryReport) -> str:
    """Write the page: HTML that needs nothing else, the same for the same report.

    Parameters
    ----------
    report
        What to say.
    """
    record, tally = report.record, report.tally
    unknown = many_unknown_messages(tally.n_beyond, tally.n_mapped, record.options.false_positive_rate)
    sections = [
        origin_section(report.query, record, tally),
        types_section(report.labels, tally),
        map_section(report.labels, tally, report.landmarks),
        certainty_section(record, tally),
        novelty_section(record, tally),
        protein_section(report.labels, report.proteins, record, tally),
        alignment_section(record.alignment),
        Section("How to cite", [paragraph("In what you publish, please name:"), _citation(record)]),
    ]
    lead = [
        paragraph(_summary(report), class_="lead"),
        notices([*report.messages, *unknown], "No warnings."),
    ]
    return page(f"Mapped query: {report.query}", lead, sections)


def _summary(report: QueryReport) -> str:
    tally, record = report.tally, report.record
    reference = f"the reference {record.reference.name} {record.reference.version}"
    if not tally.n_mapped:
        return f"None of the {count(tally.n_cells)} cells has RNA, so none was mapped to {reference}."
    cells = tally.label_cells
    found = int((cells[:-1] > 0).sum())
    kinds = "one of its cell types" if found == 1 else f"{count(found)} of its cell types"
    unknown = (
        f"{count(tally.n_beyond)} ({share(tally.n_beyond / tally.n_mapped)}) look like none of the reference's cells"
        + (" and keep their likeliest label." if record.options.keep_unknown_labels else ' and are called "unknown".')
    )
    return (
        f"{count(tally.n_mapped)} cells were mapped to {reference}, which has {count(len(report.labels))} cell types; "
        f"they were given {kinds}. The median confidence is {tally.median_confidence():.2f}. {unknown}"
    )


def _citation(record: MappingRecord) -> Child:
    reference = record.reference
    return citation(
        record.totalanvi,
        (f"The reference {reference.name}, version {reference.version}, SHA-256 {reference.digest}",),
    )
