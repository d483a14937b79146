"""The main job, end to end, on simulated cells: reference → checkpoint → bundle → endpoint → annotated query.

Every joint is the real one: the files, the formats and the endpoint's process are those of a real reference.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import mudata as md
import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from totalanvi.export.bundle import export_bundle
from totalanvi.export.demo_endpoint import running_endpoint
from totalanvi.export.demo_folder import PRODUCTS, require_replaceable
from totalanvi.export.demo_picture import draw_map
from totalanvi.export.demo_scores import FALSE_POSITIVE_RATE, Scores, score_query
from totalanvi.export.target import make_parents
from totalanvi.formats.mudata_options import not_pulling
from totalanvi.machine.still_going import still_going
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.client import Client
from totalanvi.serving.outputs.output import OutputPlan, staged
from totalanvi.training.cli_warnings import told_warnings
from totalanvi.training.models.totalanvi import TOTALANVI
from totalanvi.training.simulation.simulate import simulate, simulate_query

__all__ = ["DemoSize", "run_demo"]

UNLABELLED = "unknown"
PROTEIN_COLUMNS = 3


@dataclass(frozen=True)
class DemoSize:
    """How much the demo does. The defaults take minutes on two CPU cores."""

    n_cells: int = 3000
    n_query: int = 1000
    n_genes: int = 1000
    n_proteins: int = 30
    n_labels: int = 8
    labelled: float = 0.5
    """Share of reference cells whose label training may see."""
    max_epochs: int = 40


@dataclass
class _Stopwatch:
    """Announces steps, gives signs of life from those that have none of their own, and takes their times."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, tells: bool = False) -> Iterator[Callable[[str], None]]:
        """Time a step, which may name what it is at, or tell of itself how far it is."""
        self.console.print(f"{name} …", highlight=False)
        said = [name]
        start = time.perf_counter()
        with nullcontext() if tells else still_going(lambda: said[-1], unless_terminal=True):
            yield said.append
        self.seconds[name] = time.perf_counter() - start


def run_demo(folder: Path, seed: int = 0, overwrite: bool = False, size: DemoSize | None = None) -> Scores:
    """Simulate, train, export, serve, map; print how well it went and leave the products in a folder.

    Parameters
    ----------
    folder
        Folder to make, with ``bundle/``, ``query.h5mu``, ``query_annotated.h5mu`` and ``map.png``.
    seed
        Of the simulation and of training.
    overwrite
        Whether the products of an earlier demo may be replaced.
    size
        How much to do.

    Returns
    -------
    Scores
        What the tables show.

    Raises
    ------
    TargetError
        When the folder exists and may not be replaced, or holds something else.
    DemoError
        When the endpoint does not get ready.
    """
    size = size or DemoSize()
    require_replaceable(folder, overwrite)
    watch = _Stopwatch(Console())
    make_parents(folder)
    with staged(OutputPlan(folder, "parts")) as made, tempfile.TemporaryDirectory() as scratch:
        made.mkdir()
        # What mudata does from 0.4 on: no copies of the modalities' columns in the whole's obs.
        with not_pulling():
            scores = _run(made, Path(scratch), watch, size, seed)
    for table in _tables(scores, watch.seconds):
        watch.console.print(table)
    for product in PRODUCTS:
        watch.console.print(f"  {folder / product}", highlight=False, soft_wrap=True)
    return scores


def _run(made: Path, room: Path, watch: _Stopwatch, size: DemoSize, seed: int) -> Scores:
    with watch.step("Simulate a reference and a query"):
        reference, query, complete = _simulate(size, seed)
    with watch.step(f"Train on {size.n_cells:,} cells, {size.labelled:.0%} of them labelled", tells=True):
        _train(reference, room / "checkpoint", size.max_epochs, seed)
    with watch.step("Export to ONNX, calibrate, prove it equal to the model") as say:
        export_bundle(room / "checkpoint", made / "bundle", name="demo", report=say)
    with ExitStack() as stack:
        with watch.step("Start the endpoint"):
            url = stack.enter_context(running_endpoint(made / "bundle", room))
        with watch.step(f"Map {size.n_query:,} query cells through the client"), told_warnings(), Client(url) as client:
            annotated = client.map(query, background="include", false_positive_rate=FALSE_POSITIVE_RATE)
    with watch.step("Judge, draw and write"):
        scores = score_query(annotated, complete)
        unseen_label = str(query.uns["simulation"]["unseen_label"])
        draw_map(annotated, Bundle.open(made / "bundle").reference.coordinates, unseen_label, made / "map.png")
        query.write(made / "query.h5mu")
        annotated.write(made / "query_annotated.h5mu")
    return scores


def _simulate(size: DemoSize, seed: int) -> tuple[md.MuData, md.MuData, md.MuData]:
    """Return the reference, the query, and the query with the proteins that it hides."""
    sizes = {
        "n_genes": size.n_genes,
        "n_proteins": size.n_proteins,
        "n_labels": size.n_labels,
        "seed": seed,
    }
    reference = simulate(size.n_cells, **sizes)
    kept = np.random.default_rng(seed).random(size.n_cells) < size.labelled
    for part in (reference, reference["rna"]):
        labels = part.obs["cell_type"].astype(str)
        part.obs["label"] = pd.Categorical(labels.where(kept, UNLABELLED))
    # The counts are drawn before cells lose their proteins, so both hold the same cells.
    return reference, simulate_query(size.n_query, **sizes), simulate_query(size.n_query, **sizes, without_proteins=0)


def _train(reference: md.MuData, checkpoint: Path, max_epochs: int, seed: int) -> None:
    TOTALANVI.setup_mudata(
        reference,
        batch_key="batch",
        labels_key="label",
        unlabeled_category=UNLABELLED,
        modalities={"rna_layer": "rna", "protein_layer": "prot"},
    )
    model = TOTALANVI(reference, seed=seed)
    with _one_thread():
        model.train(max_epochs=max_epochs)
    model.save(checkpoint)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one core: matrices this small gain little from more, and lose much where cores are shared.

    Threads that wait for each other do so at full speed; on two busy cores that made training seven times slower.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tables(scores: Scores, seconds: dict[str, float]) -> list[Table]:
    figures = Table(title="Query from an unseen batch", title_justify="left", show_header=False)
    figures.add_column()
    figures.add_column(justify="right")
    figures.add_row("Label accuracy, known types", f"{scores.accuracy:.1%}")
    figures.add_row("  cells with proteins", f"{scores.accuracy_with_proteins:.1%}")
    figures.add_row("  cells without proteins", f"{scores.accuracy_without_proteins:.1%}")
    figures.add_row("Mean confidence, known types", f"{scores.confidence:.1%}")
    figures.add_row("Imputed proteins, mean correlation with hidden counts", f"{scores.imputation.mean():.3f}")
    figures.add_row("Novelty of the unseen type, AUROC", f"{scores.novelty_auroc:.3f}")
    figures.add_row(
        f"  labelled unknown at {FALSE_POSITIVE_RATE:.0%} false positives: unseen type", f"{scores.flagged_unseen:.1%}"
    )
    figures.add_row(
        f"  labelled unknown at {FALSE_POSITIVE_RATE:.0%} false positives: known types", f"{scores.flagged_known:.1%}"
    )

    proteins = Table(title="Imputed and hidden counts, log1p: Pearson r", title_justify="left")
    for _ in range(PROTEIN_COLUMNS):
        proteins.add_column("Protein")
        proteins.add_column("r", justify="right")
    ordered = scores.imputation.sort_values(ascending=False)
    entries = [(str(protein), f"{r:.2f}") for protein, r in ordered.items()]
    n_rows = -(-len(entries) // PROTEIN_COLUMNS)
    for i in range(n_rows):
        proteins.add_row(*(text for entry in entries[i::n_rows] for text in entry))

    times = Table(title="Time", title_justify="left")
    times.add_column("Step")
    times.add_column("Seconds", justify="right")
    for name, taken in seconds.items():
        times.add_row(name, f"{taken:.1f}")
    times.add_section()
    times.add_row("All", f"{sum(seconds.values()):.1f}")
    return [figures, proteins, times]
