"""What a process that reads an uploaded file does with it, within its limits and in the file's folder."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from totalanvi.formats.hdf5_size import require_modest
from totalanvi.formats.stores import content_of, open_hdf5
from totalanvi.serving.client.answer_cache import AnswerCache
from totalanvi.serving.client.remote import RemoteReference
from totalanvi.serving.endpoint.files.columns import write_columns
from totalanvi.serving.endpoint.files.job import ANSWERS, CELLS, PROTEINS, QUERY, RESULT, FileJob
from totalanvi.serving.errors import QueryError, TooLargeError
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.mapping.beforehand import preview
from totalanvi.serving.mapping.mapping import map_file
from totalanvi.serving.queries.readers import open_query, reading_query
from totalanvi.serving.report.annotated import read_report
from totalanvi.serving.report.query_report import query_page
from totalanvi.serving.wire.schemas import EndpointInfo, PredictOptions

if TYPE_CHECKING:
    from totalanvi.serving.endpoint.files.worker import PipeCarrier

__all__ = ["do"]


class _Reporting(RemoteReference):
    """The endpoint's reference; tells the endpoint how far it has come.

    Parameters
    ----------
    carrier
        Reaches the endpoint.
    job
        What is done.
    total
        Cells of the file.
    """

    def __init__(self, carrier: PipeCarrier, job: FileJob, total: int) -> None:
        answers = None if job.task == "map" else AnswerCache(ANSWERS)
        super().__init__(carrier, 1, job.chunk_cells, answers, job.options.reference)
        self._pipe = carrier
        self._done, self._total = 0, total
        carrier.tell("p", done=0, total=total)

    def _send(self, info: EndpointInfo, body: bytes, n_cells: int, options: MapOptions) -> MappedCells:
        mapped = super()._send(info, body, n_cells, options)
        self._done += n_cells
        self._pipe.tell("p", done=self._done, total=self._total)
        return mapped


def do(job: FileJob, carrier: PipeCarrier) -> str:
    """Do a job and return the kind of the output, which lies in this folder as `RESULT`.

    Parameters
    ----------
    job
        What to do with `QUERY`.
    carrier
        Reaches the endpoint.

    Raises
    ------
    ServingError
        Whatever is wrong with the file.
    """
    query = Path(QUERY)
    with reading_query(query), open_hdf5(query) as file:
        require_modest(file, job.max_inflated_bytes)
        content = content_of(query, file)
    if job.task == "csv":
        return _write_text()
    if job.task == "report":
        return _write_page(job, carrier)
    if job.task == "look":
        return _look(job, carrier, query)
    output = "parquet" if job.task == "show" else job.output
    if output == "annotated":
        output = "h5mu" if content == "mudata" else "h5ad"
    if output == "h5mu" and content != "mudata":
        raise QueryError("Expected a MuData for output=h5mu, found none; ask for output=h5ad, or leave it out.")
    options = job.options
    with open_query(query, options.proteins, options.layer) as source:
        total = _modest(len(source), job.max_cells)
    reference = _Reporting(carrier, job, total)
    summary = map_file(
        lambda: reference,
        query,
        f"{RESULT}.{output}",
        proteins=options.proteins,
        layer=options.layer,
        options=_map_options(job),
        batch_size=job.chunk_cells,
        # A file that stays may be mapped again, in another way.
        overwrite=job.task != "map",
        gene_column=options.gene_column,
    )
    if job.task == "show":
        write_columns(summary, reference.info(), reference.features, Path(CELLS), Path(PROTEINS))
    return output


def _look(job: FileJob, carrier: PipeCarrier, query: Path) -> str:
    """Say what is in the file, and how its names match."""
    options = job.options
    with open_query(query, options.proteins, options.layer) as source:
        _modest(len(source), job.max_cells)
        found = preview(_Reporting(carrier, job, len(source)), source, _map_options(job), options.gene_column)
        said = asdict(found) | {"kind": source.kind, "alignment": found.alignment.model_dump(mode="json")}
    Path(f"{RESULT}.json").write_text(json.dumps(said, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    return "json"


def _write_text() -> str:
    """Write the table that the file was mapped into as text."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow.csv import CSVWriter

    with pq.ParquetFile(f"{RESULT}.parquet") as table:
        schema = table.schema_arrow
        for place, field in enumerate(schema):
            if pa.types.is_dictionary(field.type):
                schema = schema.set(place, field.with_type(field.type.value_type))
        with CSVWriter(f"{RESULT}.csv", schema) as text:
            for block in table.iter_batches():
                text.write_table(pa.Table.from_batches([block]).cast(schema))
    return "csv"


def _write_page(job: FileJob, carrier: PipeCarrier) -> str:
    """Write the page about what the file was mapped into."""
    reference = RemoteReference(carrier, 1, job.chunk_cells, None, job.options.reference)
    found = read_report(Path(f"{RESULT}.parquet"))
    page = query_page(replace(found, query=job.options.name or QUERY, landmarks=reference.landmarks()))
    Path(f"{RESULT}.html").write_text(page, encoding="utf-8")
    return "html"


def _modest(total: int, most: int) -> int:
    if total > most:
        raise TooLargeError(f"Expected at most {most} cells, found {total}; send fewer at a time.")
    return total


def _map_options(job: FileJob) -> MapOptions:
    return MapOptions(**job.options.model_dump(include=set(PredictOptions.model_fields)))
