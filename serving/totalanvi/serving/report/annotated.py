"""A report on a query that was mapped before, from what mapping wrote: read in windows, like the query."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from totalanvi.formats.stores import content_of, open_hdf5
from totalanvi.serving.errors import QueryError
from totalanvi.serving.outputs.imputation_notes import doubtful_message, few_proteins_messages
from totalanvi.serving.outputs.unmapped_note import without_rna_messages
from totalanvi.serving.queries.readers import reading_query
from totalanvi.serving.report.annotated_hdf5 import hdf5_results
from totalanvi.serving.report.annotated_parquet import parquet_results
from totalanvi.serving.report.query_report import QueryReport
from totalanvi.serving.report.record import MappingRecord
from totalanvi.serving.report.stored_results import StoredResults
from totalanvi.serving.report.tally import Tally

__all__ = ["read_report"]


def read_report(output: Path) -> QueryReport:
    """Gather what a report says out of a mapped query.

    Parameters
    ----------
    output
        An ``.h5ad``, ``.h5mu`` or ``.parquet`` file that mapping wrote, or a folder of such tables.

    Raises
    ------
    QueryError
        When it is something else, or lacks what mapping writes.
    """
    with _opened(output) as stored:
        record = MappingRecord.of(stored.uns, repr(str(output)))
        tally = Tally(len(stored.labels), len(stored.proteins), 1 - record.options.false_positive_rate)
        for cells in stored.blocks():
            tally.add(cells)
    messages = [
        *record.alignment.warnings,
        *without_rna_messages(tally.n_unmapped, tally.n_cells),
        *_imputed(record),
    ]
    return QueryReport(output.name, record, stored.labels, stored.proteins, tally, messages)


@contextmanager
def _opened(output: Path) -> Iterator[StoredResults]:
    with reading_query(output):
        if output.is_dir():
            parts = sorted(output.glob("part-*.parquet"))
            if not parts:
                raise QueryError(
                    f"Expected what `totalanvi map` wrote; found a folder without tables, {str(output)!r}. Name the "
                    "output of a mapping."
                )
            yield parquet_results(parts)
        elif output.suffix == ".parquet" and output.is_file():
            yield parquet_results([output])
        else:
            with open_hdf5(output) as file:
                content_of(output, file)
                yield hdf5_results(file, output)


def _imputed(record: MappingRecord) -> list[str]:
    """Say what mapping said of imputed proteins."""
    if record.imputation is None:
        return _doubtful(record)
    cells = record.cells
    few = [] if cells is None else few_proteins_messages(record.imputation.doubtful, cells.with_proteins, cells.mapped)
    return [*record.imputation.warnings, *few]


def _doubtful(record: MappingRecord) -> list[str]:
    """Say of an older output which proteins were imputed badly; of a long list of missing ones, it has the first."""
    if record.protein_reliability is None:
        return []
    missing = record.alignment.proteins.missing_names
    doubtful = [name for name in record.protein_reliability.doubtful if name in missing]
    return [doubtful_message(doubtful)] if doubtful else []
