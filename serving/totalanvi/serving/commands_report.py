"""The sub-command ``totalanvi report``: a page about a query that was mapped before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["report"]


def report(
    annotated: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="What `map` wrote: an .h5ad, .h5mu or .parquet file, or a folder of tables.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE.html",
            help="Page to write; beside OUTPUT, with its name, when left out.",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="REFERENCE",
            help="The bundle or endpoint that OUTPUT was mapped to, whose own cells are then shown behind the query's.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a page that exists.")] = False,
) -> None:
    """Write a page about a mapped query."""
    from dataclasses import replace

    from totalanvi.serving.errors import OutputError
    from totalanvi.serving.outputs.output import plan_report, staged
    from totalanvi.serving.report.annotated import read_report
    from totalanvi.serving.report.query_report import query_page

    target = annotated.with_suffix(".html") if output is None else output
    if target.suffix != ".html":
        raise OutputError(f"Expected a page that ends in .html; found {str(target)!r}. Name it so.")
    plan = plan_report(target, (annotated,), overwrite)
    found = read_report(annotated)
    if reference is not None:
        found = replace(found, landmarks=_landmarks(reference, found.record.reference.digest))
    with staged(plan) as file:
        file.write_text(query_page(found), encoding="utf-8")
    typer.echo(f"Report:     {target}")


def _landmarks(reference: str, digest: str) -> npt.NDArray[np.float32]:
    from totalanvi.serving.errors import BundleError
    from totalanvi.serving.reference import load_reference

    loaded = load_reference(reference)
    if (found := loaded.info().digest) != digest:
        raise BundleError(
            f"{reference}: expected the reference that was mapped to (SHA-256 {digest[:12]}…), found another "
            f"({found[:12]}…); name that one, or leave --reference out."
        )
    return loaded.landmarks()
