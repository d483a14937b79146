"""What was mapped onto what, and how."""

from __future__ import annotations

from totalanvi.pages.elements import Child, element
from totalanvi.pages.page import Section
from totalanvi.pages.tables import count, facts, percent
from totalanvi.serving.report.record import MappingRecord
from totalanvi.serving.report.tally import Tally

__all__ = ["origin_section"]


def origin_section(query: str, record: MappingRecord, tally: Tally) -> Section:
    """Name query, reference, versions, digests and options.

    Parameters
    ----------
    query
        Its name.
    record, tally
        Of the report.
    """
    reference, options = record.reference, record.options
    without = f", {count(tally.n_unmapped)} of them without RNA, which were not mapped" if tally.n_unmapped else ""
    pairs: list[tuple[str, Child]] = [
        ("Query", query),
        ("Cells", f"{count(tally.n_cells)}{without}"),
        ("RNA read from", record.query.rna),
        ("Proteins read from", record.query.proteins),
        ("Reference", f"{reference.name} {reference.version}"),
        ("Its SHA-256", element("span", reference.digest, class_="digest")),
        *([] if reference.precision is None else [("Its precision", reference.precision)]),
        ("Mapped by", f"totalanvi {record.totalanvi}"),
        ("Label sets hold the label", f"of {percent(options.coverage)} of cells like the reference's"),
        ("May be called unknown", f"{percent(options.false_positive_rate)} of cells like the reference's"),
        ("Certain from", f"a probability of {options.certainty:g}"),
        ("Proteins imputed", _imputed(record)),
    ]
    return Section("What was mapped", [facts(pairs)])


def _imputed(record: MappingRecord) -> str:
    options = record.options
    if not options.impute:
        return "no"
    background = "without background" if options.background == "exclude" else "as they would be counted"
    whose = "as the average of batches" if options.impute_as == "average" else f"as batch {options.impute_as}"
    return f"{background}, {whose}, means of {options.samples} posterior samples"
