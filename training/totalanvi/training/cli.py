"""The sub-commands ``totalanvi simulate`` and ``totalanvi train``.

Heavy imports wait inside the functions, so that ``totalanvi --help`` is quick and works without torch.
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from totalanvi.training.cli_warnings import told_warnings

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from totalanvi.training.models.totalanvi import TOTALANVI

__all__ = ["simulate", "train"]

_PROTEINS_OBSM = "protein_expression"
_RNA_MODALITIES = ("rna", "gex")
_PROTEIN_MODALITIES = ("prot", "protein", "adt", "ab")
"""Usual names, whatever their case; `totalanvi map` looks for the same ones."""


class _Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class _Strategy(StrEnum):
    auto = "auto"
    ddp = "ddp"


def simulate(
    output: Annotated[Path, typer.Argument(metavar="OUT.h5mu", help="File to write.")],
    query: Annotated[
        Path | None,
        typer.Option(
            metavar="QUERY.h5mu",
            help="Write a query for it, too: 1,000 cells of one further batch, some of an unseen type, a third without "
            "proteins.",
            show_default=False,
        ),
    ] = None,
    cells: Annotated[int, typer.Option(metavar="N", help="How many cells.")] = 3000,
    genes: Annotated[int, typer.Option(metavar="N", help="How many genes.")] = 1000,
    proteins: Annotated[int, typer.Option(metavar="N", help="How many proteins.")] = 30,
    labels: Annotated[int, typer.Option(metavar="N", help="How many cell types.")] = 8,
    batches: Annotated[int, typer.Option(metavar="N", help="How many batches.")] = 2,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same cells.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False,
) -> None:
    """Simulate a CITE-seq reference with known cell types, and a query for it."""
    from totalanvi.training.places import require_apart, require_new

    require_new(output, ".h5mu", overwrite)
    if query is not None:
        require_new(query, ".h5mu", overwrite)
        require_apart(output, query)
    from totalanvi.machine.still_going import still_going
    from totalanvi.training.files import write_mudata
    from totalanvi.training.simulation.simulate import simulate as simulate_reference
    from totalanvi.training.simulation.simulate import simulate_query

    with still_going(lambda: "Simulating the reference", unless_terminal=True):
        mdata = simulate_reference(cells, genes, proteins, labels, batches, seed)
        write_mudata(mdata, output)
    typer.echo(
        f"Simulated {cells} cells × {genes} genes × {proteins} proteins, {labels} cell types: {output}", err=True
    )
    if query is not None:
        sizes = {"n_genes": genes, "n_proteins": proteins, "n_labels": labels, "n_batches": batches, "seed": seed}
        with still_going(lambda: "Simulating the query", unless_terminal=True):
            cells_to_map = simulate_query(**sizes)
            # Under the reference's name, adapting a model to the query would take the truth for labels that are known.
            for part in (cells_to_map, *cells_to_map.mod.values()):
                part.obs = part.obs.rename(columns={"cell_type": "true_type"})
            write_mudata(cells_to_map, query)
        unseen = cells_to_map.uns["simulation"]["unseen_label"]
        typer.echo(f"Simulated {cells_to_map.n_obs} cells to map, some of the unseen type {unseen}: {query}", err=True)


def train(
    reference: Annotated[
        Path,
        typer.Argument(
            metavar="REFERENCE",
            help="Cells with RNA and protein counts: .h5ad, .h5mu, a Zarr folder of either, or a 10x matrix (--obs).",
        ),
    ],
    labels: Annotated[str, typer.Option(metavar="KEY", help="Column of obs with the cell types.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="CHECKPOINT/", help="Folder to write.")],
    unlabeled: Annotated[
        list[str] | None, typer.Option(metavar="VALUE", help="Value of KEY that means 'not labelled'; may be repeated.")
    ] = None,
    batch: Annotated[str | None, typer.Option(metavar="KEY", help="Column of obs with the batch.")] = None,
    panel: Annotated[
        str | None, typer.Option(metavar="KEY", help="Column of obs with the protein panel; the batch by default.")
    ] = None,
    size_factor: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Column of obs with what scales a cell's RNA; its total by default."),
    ] = None,
    categorical_covariate: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Column of obs to correct for, besides the batch; may be repeated."),
    ] = None,
    continuous_covariate: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="The same for a column of numbers; may be repeated.")
    ] = None,
    obs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV or TSV with columns to add to obs, such as cell types; the first column names the cells.",
            show_default=False,
        ),
    ] = None,
    proteins: Annotated[
        str | None,
        typer.Option(
            metavar="OBSM_KEY|MODALITY",
            help="Where the protein counts are; when left out, protein_expression, or prot, protein, adt or ab.",
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
    backed: Annotated[
        bool | None,
        typer.Option(
            "--backed/--no-backed",
            help="Leave counts in the file and read them in parts; by default where they would take more than a "
            "quarter of the memory.",
            show_default=False,
        ),
    ] = None,
    max_epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="At most so many passes over the cells; by default as many as make 4,000 mini-batches, 20 to 400.",
            min=1,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same model (on CPU).")] = 0,
    readout: Annotated[
        bool, typer.Option("--readout/--no-readout", help="Fit what serves labels and proteins straight from counts.")
    ] = True,
    device: Annotated[_Device, typer.Option(help="Where to train.")] = _Device.auto,
    devices: Annotated[
        int, typer.Option(metavar="N", help="Devices of each machine to train on, with a process each.", min=1)
    ] = 1,
    num_nodes: Annotated[
        int,
        typer.Option(
            metavar="M", help="Machines, on each of which this command is started; see the documentation.", min=1
        ),
    ] = 1,
    strategy: Annotated[
        _Strategy, typer.Option(help="How several devices train: with a whole model each, and gradients in common.")
    ] = _Strategy.auto,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace CHECKPOINT if it exists.")] = False,
) -> None:
    """Train TotalANVI on a partly labelled CITE-seq reference."""
    # Torch's threads wait for each other by spinning: where cores are shared, that made training many times slower. It
    # has to be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from totalanvi.training.checkpoints.folder import require_writable
    from totalanvi.training.cli_interrupts import told_what_is_lost
    from totalanvi.training.places import require_reference

    # A slip in a name is told before torch is imported, which takes seconds.
    require_writable(output, overwrite)
    require_reference(reference)
    from totalanvi.training.registration.obs_table import join_obs, read_obs_table

    described = None if obs is None else read_obs_table(obs)
    from totalanvi.machine.still_going import still_going
    from totalanvi.training.devices import chosen_device
    from totalanvi.training.files import is_large, read_reference
    from totalanvi.training.fitting.placement import placement
    from totalanvi.training.models.totalanvi import TOTALANVI
    from totalanvi.training.ranks import is_first_process, is_started_beside

    # Of several processes that run this command, one tells of it.
    tell = partial(typer.echo, err=True) if devices * num_nodes == 1 or not is_started_beside() else _tell_nothing
    target = chosen_device(device.value)
    place = placement(target.type, devices, num_nodes, strategy.value)
    started = time.monotonic()
    columns = {
        "labels_key": labels,
        "unlabeled_category": unlabeled or [],
        "batch_key": batch,
        "panel_key": panel,
        "size_factor_key": size_factor,
        "categorical_covariate_keys": categorical_covariate,
        "continuous_covariate_keys": continuous_covariate,
    }
    reading: AbstractContextManager[None] = (
        nullcontext() if tell is _tell_nothing else still_going(lambda: "Reading the reference", unless_terminal=True)
    )
    with told_warnings(tell), reading:
        stored = is_large(reference) if backed is None else backed
        if stored and backed is None:
            tell("Counts stay in their file, and are read in parts (--no-backed reads them whole).")
        data = read_reference(reference, stored)
        if described is not None:
            join_obs(data, described)
        data = _set_up(data, proteins, layer, columns)
        model = TOTALANVI(data, seed=seed)
    tell(_describe(model))
    if (processes := devices * num_nodes) > 1:
        tell(f"Training in {processes} processes, one for each device.")
    with told_what_is_lost(output, tell):
        model.train(max_epochs=max_epochs, **place)
        if not is_first_process():
            return
        if readout:
            tell("Fitting the readout, which labels and proteins are served from.")
            model.fit_readout()
        model.save(output, overwrite=overwrite)
    tell(_summary(model, output, time.monotonic() - started))


def _tell_nothing(message: str) -> None:
    """Say nothing in a process beside the first."""


def _set_up(
    data: AnnData | MuData, proteins: str | None, layer: str | None, columns: dict[str, Any]
) -> AnnData | MuData:
    """Note on the data where its parts are; what is returned has its counts in ``X`` or in a layer, genes alone."""
    from mudata import MuData

    from totalanvi.training.models.totalanvi import TOTALANVI
    from totalanvi.training.registration.counts_choice import with_counts

    if isinstance(data, MuData):
        protein_modality = proteins or _first_of(data, _PROTEIN_MODALITIES, "a protein", "--proteins MODALITY")
        others = [name for name in data.mod if name != protein_modality]
        rna = others[0] if len(others) == 1 else _first_of(data, _RNA_MODALITIES, "an RNA", "the name 'rna' for it")
        layers: dict[str, str | None] = {}
        for name, wanted, cure in ((rna, layer, "--layer NAME"), (protein_modality, None, "keep it in X alone")):
            if name in data.mod:
                data.mod[name], layers[name] = with_counts(data.mod[name], wanted, name, cure)
        data.mod[rna] = _genes_alone(data.mod[rna], layers[rna])
        TOTALANVI.setup_mudata(
            data,
            rna_layer=layers[rna],
            protein_layer=layers.get(protein_modality),
            modalities={"rna_layer": rna, "protein_layer": protein_modality},
            **columns,
        )
    else:
        data, layer = with_counts(data, layer)
        data = _genes_alone(data, layer)
        TOTALANVI.setup_anndata(data, protein_expression_obsm_key=proteins or _PROTEINS_OBSM, layer=layer, **columns)
    return data


def _genes_alone(adata: AnnData, layer: str | None) -> AnnData:
    """Leave the genes of features that are of several kinds; proteins among them go to ``obsm``."""
    from totalanvi.formats.feature_types import FEATURE_TYPES, apart, feature_kinds
    from totalanvi.training.errors import RegistrationError
    from totalanvi.training.registration.stored_rows import is_stored

    stored = is_stored(adata.X if layer is None else adata.layers[layer])
    if stored and FEATURE_TYPES in adata.var and feature_kinds(adata.var[FEATURE_TYPES]) is not None:
        raise RegistrationError(
            f"Expected genes alone in var of a file that is read in parts, found features of several kinds "
            f"(var[{FEATURE_TYPES!r}]); read it whole (--no-backed), or write genes to X and proteins to obsm once."
        )
    return apart(adata, layer)


def _first_of(data: MuData, candidates: tuple[str, ...], what: str, cure: str) -> str:
    from totalanvi.training.errors import RegistrationError

    by_folded: dict[str, str] = {name.casefold(): name for name in reversed(list(data.mod))}
    for name in candidates:
        if name in by_folded:
            return by_folded[name]
    raise RegistrationError(f"Expected {what} modality, found {', '.join(data.mod)}; say which it is, with {cure}.")


def _describe(model: TOTALANVI) -> str:
    dims = model.registry.dimensions
    return (
        f"{model.n_cells} cells ({model.n_labelled} labelled, {dims.n_labels} types), {dims.n_genes} genes, "
        f"{dims.n_proteins} proteins, {dims.n_batches} {'batch' if dims.n_batches == 1 else 'batches'}"
    )


def _summary(model: TOTALANVI, output: Path, seconds: float) -> str:
    last = {name: float(frame[name].iloc[-1]) for name, frame in model.history.items()}
    scores = [
        f"{text} {last[name]:.4g}"
        for name, text in (
            ("elbo_validation", "validation ELBO loss"),
            # A readout, which is what a bundle serves labels from, is judged at export.
            ("validation_accuracy", "validation accuracy of the generative model"),
        )
        if name in last
    ]
    # The bar of such a run stops half-way: say that this is no accident.
    done, most = model._training["n_epochs"], model._training["options"]["max_epochs"]
    early = f", ended early after {done} of {most} epochs" if done < most else ""
    return f"Trained in {seconds:.0f} s{early} ({'; '.join(scores) or 'nothing held out'}): {output}"
