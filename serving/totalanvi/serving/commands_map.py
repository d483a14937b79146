"""The command line's ``totalanvi map``.

Only the standard library and typer are imported at the top: the command line imports this file whatever it is asked.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from totalanvi.serving.commands import ReferenceArgument

__all__ = ["map_query"]


class _Background(StrEnum):
    exclude = "exclude"
    include = "include"


class _Engine(StrEnum):
    local = "local"
    ray = "ray"


def map_query(
    context: typer.Context,
    reference: ReferenceArgument,
    query: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY",
            help="An .h5ad, .h5mu or 10x .h5 file, a Zarr folder, or the folder of a 10x matrix. Or many of them: "
            "files, folders, patterns ('runs/*.h5ad'), lists (.txt, .csv), addresses (https://, s3://).",
            show_default=False,
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="An annotated copy (.h5ad, .h5mu), a table (.parquet), or a folder of tables (FOLDER/); of many "
            "queries, a folder with a folder for each.",
            show_default=False,
        ),
    ] = None,
    proteins: Annotated[
        str | None,
        typer.Option(
            metavar="OBSM_KEY|MODALITY|none",
            help="Where the query's proteins are; found by the usual names when left out.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Layer of the raw RNA counts, or X, or raw; found when only one of them holds counts.",
            show_default=False,
        ),
    ] = None,
    gene_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|var_names",
            help="Column of var that names genes by symbol or Ensembl id; found by what matches best when left out.",
            show_default=False,
        ),
    ] = None,
    feature_map: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV or TSV of two columns: what the query calls a gene or protein, what the reference does.",
            show_default=False,
        ),
    ] = None,
    impute: Annotated[bool, typer.Option("--impute/--no-impute", help="Estimate proteins.")] = True,
    samples: Annotated[
        int, typer.Option(metavar="N", min=1, help="Posterior samples that a protein is averaged over.")
    ] = 25,
    background: Annotated[
        _Background,
        typer.Option(help="Impute denoised protein (exclude), or what the assay would have counted (include)."),
    ] = _Background.exclude,
    impute_as: Annotated[
        str | None,
        typer.Option(
            metavar="BATCH",
            help="Batch of the reference to impute as; the average of those that measured a protein when left out.",
            show_default=False,
        ),
    ] = None,
    coverage: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="How often label sets hold the label, and intervals the count, of a cell like these."
        ),
    ] = 0.9,
    false_positive_rate: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of cells like the reference's that may be labelled unknown."),
    ] = 0.01,
    keep_unknown_labels: Annotated[
        bool, typer.Option("--keep-unknown-labels", help="Give novel cells their likeliest label, not 'unknown'.")
    ] = False,
    certainty: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Below it, a label gives way to its parent (where the reference has any)."),
    ] = 0.9,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Cells that are read and mapped together.")
    ] = 4096,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html|FILE.json",
            help="Write a page about the mapped query (.html), or how each gene and protein name was resolved (.json). "
            "Of a job's queries, `totalanvi report` makes pages.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Go on with the job of many queries in FOLDER, which need not be named with -o then. Of one query at "
            "an endpoint: keep answers here until the output is written, and go on from those of an earlier run.",
            show_default=False,
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="How long an endpoint may take for all of it: past this, the command ends in an error. Nothing of a "
            "single query is written then; of a job, the parts that are done are kept (--resume).",
            show_default=False,
        ),
    ] = None,
    part_cells: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Cells in each part of a job, 65,536 unless given; even one query is a job then.",
            show_default=False,
        ),
    ] = None,
    copies: Annotated[
        bool, typer.Option("--copies", help="Write an annotated copy of each query of a job, instead of tables.")
    ] = False,
    engine: Annotated[
        _Engine | None,
        typer.Option(help="What a job runs on: this process (local, unless given), or Ray.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Workers on Ray; one for each GPU, or else for four cores, unless given.",
            show_default=False,
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            envvar="RAY_ADDRESS",
            help="A Ray cluster; Ray is started on this machine where none is given.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
) -> None:
    """Map a query's file, or many, to a reference: labels, novelty and proteins for each cell."""
    from totalanvi.serving.client.patience import Deadline
    from totalanvi.serving.jobs.command import JobRequest, run_job
    from totalanvi.serving.mapped import MapOptions
    from totalanvi.serving.mapping.mapping import map_file
    from totalanvi.serving.outputs.map_summary import summary_lines
    from totalanvi.serving.reference import load_reference, open_endpoint

    options = MapOptions(
        impute=impute,
        samples=samples,
        background=background.value,
        impute_as=impute_as,
        coverage=coverage,
        false_positive_rate=false_positive_rate,
        keep_unknown_labels=keep_unknown_labels,
        certainty=certainty,
    )
    asked = JobRequest(
        reference=reference,
        queries=query,
        output=output,
        resume=resume,
        overwrite=overwrite,
        report=report,
        feature_map=feature_map,
        engine=None if engine is None else engine.value,
        workers=workers,
        # The environment's is for all jobs on Ray, and says nothing of this one.
        cluster=cluster if engine is _Engine.ray or _is_given(context, "cluster") else None,
        deadline=deadline,
        part_cells=part_cells,
        copies=copies,
    )
    if asked.is_job:
        run_job(asked, options, proteins, layer, gene_column, batch_size)
        return
    if output is None:
        raise typer.BadParameter("Missing option '-o' / '--output'.")
    client = None
    if resume is not None or deadline is not None:
        client = open_endpoint(reference, None if deadline is None else Deadline(deadline), resume)
    summary = map_file(
        lambda: load_reference(reference) if client is None else client,
        Path(query[0]),
        output,
        proteins=proteins,
        layer=layer,
        options=options,
        batch_size=batch_size,
        overwrite=overwrite,
        progress=True,
        gene_column=gene_column,
        feature_map=feature_map,
        report=report,
    )
    if client is not None:
        client.forget_answers()
    for message in summary.messages:
        typer.echo(f"Warning: {message}", err=True)
    for note in summary.notes:
        typer.echo(f"Note: {note}", err=True)
    for line in summary_lines(summary):
        typer.echo(line)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
