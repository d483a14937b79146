"""The sub-commands ``totalanvi export`` and ``totalanvi demo``.

Heavy imports wait inside the functions, so that ``totalanvi --help`` is quick and works without torch.
"""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from totalanvi.serving.bundles.bundle import Bundle
    from totalanvi.serving.bundles.modes import Mode
    from totalanvi.serving.bundles.thresholds import Thresholds

__all__ = ["demo", "export"]


def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Folder that `train` wrote.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="BUNDLE/", help="Folder to write.", show_default=False)
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that exists.")] = False,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the reference; the output folder's by default.", show_default=False),
    ] = None,
    parents: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV (label,parent): what to call a cell whose label is not certain.",
            show_default=False,
        ),
    ] = None,
    licence: Annotated[
        str,
        typer.Option(
            "--license", metavar="NAME", help="Licence of the reference, for its model card, such as cc-by-4.0."
        ),
    ] = "unknown",
    precision: Annotated[
        str,
        typer.Option(
            metavar="[float32|float16|bfloat16|int8]",
            help="What weights are stored and products computed in. What less than float32 costs is measured, printed "
            "and kept in the bundle. int8 is for speed on a CPU, float16 for a GPU.",
        ),
    ] = "float32",
    store: Annotated[
        bool, typer.Option("--store", help="Put it into BentoML's model store under that name, too.")
    ] = False,
    sign: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY.pem", help="Vouch for it with this private key (Ed25519, from openssl).", show_default=False
        ),
    ] = None,
) -> None:
    """Turn a checkpoint into a bundle that is served without torch."""
    from totalanvi.export.beforehand import judged_name

    # A slip in a name is told before torch is imported, which takes seconds.
    judged_name(checkpoint, output, name, None, overwrite, licence, parents=parents, sign=sign, precision=precision)
    from totalanvi.export.bundle import export_bundle
    from totalanvi.export.store import store_bundle
    from totalanvi.machine.still_going import still_going
    from totalanvi.serving.bundles.bundle import Bundle

    said = ["Reading the checkpoint"]

    def say(line: str) -> None:
        said.append(line)
        typer.echo(f"{line} …", err=True)

    started = time.perf_counter()
    with still_going(lambda: said[-1], unless_terminal=True):
        made = export_bundle(
            checkpoint,
            output,
            name=name,
            overwrite=overwrite,
            parents=parents,
            licence=licence,
            report=say,
            sign=sign,
            precision=precision,
        )
    bundle = Bundle.open(made)
    for line in _summary_lines(bundle, time.perf_counter() - started):
        typer.echo(line, err=True)
    if store:
        typer.echo(f"Stored as:   {store_bundle(bundle, overwrite)}", err=True)


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where to leave all of it.")] = Path(
        "demo"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run left there.")] = False,
    serve: Annotated[
        bool | None,
        typer.Option(
            "--serve/--no-serve",
            help="Keep the endpoint, and the page for browsers, until Enter is pressed; by default on a terminal.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the main job with nothing else at hand: simulate, train, export, serve, map."""
    from totalanvi.export.demo_folder import require_replaceable

    require_replaceable(output, overwrite)
    from totalanvi.export.demo import run_demo
    from totalanvi.export.demo_endpoint import show_page

    run_demo(output, overwrite=overwrite)
    if serve or (serve is None and sys.stdin.isatty() and sys.stdout.isatty()):
        show_page(output, sys.stdin)
    else:
        bundle = shlex.quote(str(output / "bundle"))
        typer.echo(f"To map files in a browser: totalanvi serve {bundle}, then open http://127.0.0.1:3000/")


def _summary_lines(bundle: Bundle, seconds: float) -> list[str]:
    from totalanvi.serving.bundles.precision import precision_lines

    manifest = bundle.manifest
    worst = max(manifest.parity, key=lambda figure: figure.relative_error)
    n_bytes = sum(record.bytes for record in manifest.files.values())
    cost = manifest.precision
    return [
        f"Reference:   {manifest.name} {manifest.version}: {len(manifest.genes.names):,} genes, "
        f"{len(manifest.proteins):,} proteins, {len(manifest.labels):,} labels",
        f"Parity:      relative error to torch at most {worst.relative_error:.1e} ({worst.graph} {worst.output}; "
        f"{worst.tolerance:g} allowed)" + ("" if cost is None else ", in float32"),
        *(_calibration_line(bundle, mode) for mode in manifest.calibration),
        _imputation_line(bundle),
        *_threshold_lines(manifest.thresholds),
        *(f"Precision:   {line}" for line in ([] if cost is None else precision_lines(cost))),
        f"Size:        {n_bytes / 1e6:.1f} MB",
        f"Time:        {seconds:.1f} s",
        f"Output:      {bundle.path}",
    ]


def _threshold_lines(thresholds: Thresholds) -> list[str]:
    if (ablation := thresholds.ablation) is None:
        return ["Genes:       no query is warned of or refused for its genes, as no cell of the checkpoint has a label"]
    cells = "held-out" if ablation.held_out else "training"
    return [
        f"Genes:       a query is warned of below {thresholds.gene_weight_warn:.0%} of the model's weight, and refused "
        f"below {thresholds.gene_weight_refuse:.0%}, where {ablation.n_cells:,} {cells} cells lose too much accuracy"
    ]


def _calibration_line(bundle: Bundle, mode: Mode) -> str:
    from totalanvi.serving.bundles.modes import MODE_NAMES

    calibration, confidence = bundle.manifest.calibration[mode], bundle.manifest.confidence[mode]
    start = f"Calibration: {MODE_NAMES[mode]}, temperature {calibration.temperature:.2f}"
    if calibration.accuracy is None:
        return f"{start} (no labelled cells were held out)"
    held = "" if confidence.set_coverage is None else f", label sets hold {confidence.set_coverage:.1%}"
    return (
        f"{start}; {calibration.n_cells:,} held-out cells: accuracy {calibration.accuracy:.3f}, log-loss "
        f"{calibration.log_loss:.3f}, calibration error {calibration.expected_calibration_error:.3f}{held}"
    )


def _imputation_line(bundle: Bundle) -> str:
    rows = list(zip(bundle.manifest.proteins, bundle.manifest.protein_reliability, strict=True))
    known = [row.pearson for _, row in rows if row.pearson is not None]
    if not known:
        return "Imputation:  not measured (no cell with proteins was held out)"
    doubtful = [name for name, row in rows if not row.reliable]
    cannot = f"; RNA cannot predict {', '.join(doubtful)}" if doubtful else ""
    return f"Imputation:  from RNA alone, mean correlation {sum(known) / len(known):.3f}{cannot}"
