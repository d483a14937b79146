"""The sub-command ``totalanvi import-scvi``.

Heavy imports wait inside the function, so that ``totalanvi --help`` is quick and works without torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from totalanvi.training.cli_warnings import told_warnings

if TYPE_CHECKING:
    from totalanvi.training.checkpoints.checkpoint import Checkpoint

__all__ = ["import_scvi"]


def import_scvi(
    saved: Annotated[Path, typer.Argument(metavar="SAVED_DIR", help="Folder that save() of scvi-tools wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="CHECKPOINT/", help="Folder to write.")],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="REFERENCE",
            help="The cells the model was trained on; export needs some. By default those saved beside it.",
            show_default=False,
        ),
    ] = None,
    prefix: Annotated[
        str, typer.Option(metavar="PREFIX", help="What the names of the saved files begin with.", show_default=False)
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace CHECKPOINT if it exists.")] = False,
) -> None:
    """Take over a TOTALVI or TOTALANVI that scvi-tools saved, versions 1.1 to 1.5; scvi-tools need not be installed."""
    from totalanvi.training.checkpoints.folder import require_writable
    from totalanvi.training.places import require_reference
    from totalanvi.training.scvi_import.saved_folder import model_file

    # A slip in a name is told before torch is imported, which takes seconds.
    require_writable(output, overwrite)
    model_file(saved, prefix)
    if data is not None:
        require_reference(data)
    from totalanvi.machine.still_going import still_going
    from totalanvi.training.checkpoints.checkpoint import write_checkpoint
    from totalanvi.training.files import read_reference
    from totalanvi.training.scvi_import.checkpoint import scvi_checkpoint
    from totalanvi.training.scvi_import.reference import data_beside

    with told_warnings(), still_going(lambda: "Importing the model", unless_terminal=True):
        cells = data_beside(saved, prefix) if data is None else read_reference(data)
        checkpoint = scvi_checkpoint(saved, cells, prefix)
        write_checkpoint(output, checkpoint, overwrite)
    typer.echo(_summary(checkpoint, output), err=True)


def _summary(checkpoint: Checkpoint, output: Path) -> str:
    dims = checkpoint.registry.dimensions
    text = (
        f"Imported a {checkpoint.kind} of scvi-tools {checkpoint.versions['scvi-tools']} ({dims.n_genes} genes, "
        f"{dims.n_proteins} proteins, {dims.n_batches} {'batch' if dims.n_batches == 1 else 'batches'}, "
        f"{dims.n_labels} labels): {output}"
    )
    if checkpoint.sample is None:
        return (
            f"{text}\nIt holds no cells of the reference, which `totalanvi export` needs: import it once more with "
            "--data REFERENCE.h5ad for that."
        )
    landmarks, held_out = len(checkpoint.sample.landmarks), len(checkpoint.sample.held_out)
    return f"{text}\nFor export, {landmarks} cells of the reference and {held_out} that are held out travel with it."
