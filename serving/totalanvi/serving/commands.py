"""The command line's sub-commands ``serve`` and ``info``.

Only the standard library and typer are imported at the top: the command line imports this file whatever it is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from totalanvi.serving.bundles.info import ReferenceInfo

__all__ = ["ReferenceArgument", "info", "serve"]


_REFERENCE_HELP = (
    "A bundle's folder, a model-store tag, or an endpoint's URL (with ?reference=NAME for another than its default "
    "one; its key, if it asks for one, in TOTALANVI_API_KEY)."
)

ReferenceArgument = Annotated[str, typer.Argument(metavar="REFERENCE", help=_REFERENCE_HELP, show_default=False)]


def serve(
    bundles: Annotated[
        list[str] | None,
        typer.Argument(metavar="BUNDLE", help="Bundles by their folders, or model-store tags.", show_default=False),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A folder with bundles in it, which may come and go.", show_default=False),
    ] = None,
    default: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[@VERSION]",
            help="Which is meant where a request names none; the first BUNDLE when left out.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Settings; the environment goes before it.", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option(metavar="H", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="P", min=1, max=65535, help="Port to listen on.")] = 3000,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keys that requests have to carry, as `totalanvi new-key` writes them; read again when it changes.",
            show_default=False,
        ),
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Let everybody in at an address that other machines can reach.")
    ] = False,
) -> None:
    """Start an endpoint that maps queries to references."""
    from totalanvi.serving.endpoint.server import serve as serve_bundles

    serve_bundles(
        *bundles or (),
        host=host,
        port=port,
        references=references,
        default=default,
        config=config,
        keys=keys,
        no_auth=no_auth,
    )


def info(
    reference: ReferenceArgument,
    json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Say what a reference is, what it knows and how well it did."""
    from totalanvi.serving.reference import load_reference

    found = load_reference(reference).info()
    if json:
        typer.echo(found.model_dump_json(indent=2))
        return
    for line in _info_lines(found):
        typer.echo(line)


def _info_lines(found: ReferenceInfo) -> list[str]:
    from totalanvi.serving.bundles.modes import MODE_NAMES
    from totalanvi.serving.bundles.precision import precision_lines

    lines = [
        f"Reference:  {found.name} {found.version}, made {found.created}",
        f"Digest:     {found.digest}",
        f"Trained on: {found.provenance.n_cells:,} cells, {found.provenance.n_labelled:,} of them labelled",
        f"Genes:      {found.n_genes:,}",
        f"Labels:     {len(found.labels):,}: {', '.join(found.labels)}",
        *(
            [f"Parents:    {', '.join(f'{name} → {up}' for name, up in found.parents.items())}"]
            if found.parents
            else []
        ),
        f"Proteins:   {len(found.proteins):,}: {', '.join(found.proteins)}",
        f"Batches:    {len(found.batches):,}: {', '.join(found.batches)}",
        f"Refuses:    queries whose genes carry less than {found.thresholds.gene_weight_refuse:.0%} of the model's "
        f"weight; warns below {found.thresholds.gene_weight_warn:.0%}",
    ]
    for mode, calibration in found.calibration.items():
        confidence = found.confidence[mode]
        lines.append(
            f"Held out:   {calibration.n_cells:,} cells {MODE_NAMES[mode]}: accuracy {_figure(calibration.accuracy)}, "
            f"log-loss {_figure(calibration.log_loss)}, calibration error "
            f"{_figure(calibration.expected_calibration_error)}; label sets for {confidence.coverage:.0%}: "
            f"{_figure(confidence.set_coverage)} hold the label, {_figure(confidence.set_size)} labels on average"
        )
    reliability = zip(found.proteins, found.protein_reliability, strict=True)
    figures = ", ".join(f"{name} {_figure(row.pearson)}" for name, row in reliability)
    lines.append(f"Imputes:    from RNA alone, correlation with held-out counts: {figures}")
    if found.parity:
        lowered = "" if found.precision is None else ", in float32"
        worst = max(p.relative_error for p in found.parity)
        lines.append(f"Parity:     relative error to torch at most {worst:.1e}{lowered}")
    if found.precision is not None:
        lines += [f"Precision:  {line}" for line in precision_lines(found.precision)]
    if found.provider:
        lines.append(f"Computes:   {found.provider}")
    return lines


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
