"""What is to be done with an uploaded file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from totalanvi.serving.wire.schemas import PredictOptions

__all__ = ["FileJob", "FileOptions", "FileOutput"]

FileOutput = Literal["annotated", "h5ad", "h5mu", "parquet"]


class FileOptions(PredictOptions):
    """What the address of ``POST /v1/files`` says behind ``?``; see `totalanvi map` for the meaning."""

    output: FileOutput | None = None
    """An annotated copy, as the kind of file that was sent or as one that is named, or a table."""
    proteins: str | None = None
    layer: str | None = None
    gene_column: str | None = None
    reference: str | None = None
    """Name of the reference that is meant, or ``NAME@VERSION``; the endpoint's default one when left out."""


class FileJob(BaseModel):
    """All that a process needs to know to map a file that lies in its folder."""

    model_config = ConfigDict(frozen=True)

    options: FileOptions
    output: FileOutput
    chunk_cells: int
    max_cells: int
    max_inflated_bytes: int
    """What the file's data sets may hold together once they are read."""
    memory_bytes: int
    """Address space of the process."""
    cpu_seconds: int
    output_bytes: int
    """Size of the largest file that it may write."""
