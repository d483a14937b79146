"""What is to be done with an uploaded file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from totalanvi.serving.wire.schemas import PredictOptions

__all__ = ["ANSWERS", "CELLS", "PROTEINS", "QUERY", "RESULT", "FileJob", "FileOptions", "FileOutput", "Task"]

FileOutput = Literal["annotated", "h5ad", "h5mu", "parquet"]

Task = Literal["map", "look", "show", "copy", "csv", "report"]
"""Map it into one output; or, where a file stays for a while: look what is in it, map it into a table and columns to be
shown, copy it with what it was mapped to, write the table as text, write a page about it."""

QUERY = "query.h5"
"""The uploaded file, in its folder."""
RESULT = "annotated"
"""With the suffix of its kind."""
ANSWERS = "answers"
"""Folder of what cells were mapped to, from which a copy is annotated without mapping again."""
CELLS, PROTEINS = "cells.bin", "proteins.bin"
"""What is shown of a mapped file; see `totalanvi.serving.endpoint.files.columns`."""


class FileOptions(PredictOptions):
    """What the address of ``POST /v1/files`` says behind ``?``; see `totalanvi map` for the meaning."""

    output: FileOutput | None = None
    """An annotated copy, as the kind of file that was sent or as one that is named, or a table."""
    proteins: str | None = None
    layer: str | None = None
    gene_column: str | None = None
    reference: str | None = None
    """Name of the reference that is meant, or ``NAME@VERSION``; the endpoint's default one when left out."""
    name: str | None = Field(default=None, max_length=255)
    """What the file is called, for the title of a report on it."""


class FileJob(BaseModel):
    """All that a process needs to know to map a file that lies in its folder."""

    model_config = ConfigDict(frozen=True)

    options: FileOptions
    output: FileOutput
    task: Task = "map"
    chunk_cells: int
    max_cells: int
    max_inflated_bytes: int
    """What the file's data sets may hold together once they are read."""
    memory_bytes: int
    """Address space of the process."""
    cpu_seconds: int
    output_bytes: int
    """Size of the largest file that it may write."""
