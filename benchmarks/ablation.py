"""What each thing that training hides is worth, in the generative model alone: no readout, everything else as shipped.

Run it with the product's own interpreter: `.venv/bin/python benchmarks/ablation.py --help`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import anndata as ad
import typer

import answers
import product_run
import results
import tables
import tasks
from totalanvi.training import TOTALANVI
from totalanvi.training.network.augmentation import Augmentation

CACHE = Path(__file__).resolve().parent / ".cache"

VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "nothing hidden": {"plan_kwargs": {"augmentation": None}},
    "panels hidden whole, never in part": {"augmentation": Augmentation(no_panel=0.8, part_panel=0.0)},
    "panels hidden in part, never whole": {"augmentation": Augmentation(no_panel=0.0, part_panel=0.8)},
    "the batch never hidden": {"augmentation": Augmentation(unknown_batch=0.0)},
    "counts of half of the cells thinned": {"augmentation": Augmentation(thinning=0.5)},
    "labels balanced: 100 cells of each an epoch": {"n_samples_per_label": 100},
}


def main(
    task: Annotated[list[str] | None, typer.Option(help="Task of AnnData; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and of training.")] = 2,
    max_epochs: Annotated[int, typer.Option(help="Most passes over the cells.", min=1)] = 40,
    data: Annotated[Path, typer.Option(help="Folder of the real cells.")] = tasks.DATA,
    threads: Annotated[int, typer.Option(help="Threads of each command.", min=1)] = 1,
) -> None:
    """Train each variant, export it, map every query, write the figures to benchmarks/results/, print them."""
    for name in task or ["pbmc10k_other_run"]:
        cases = tasks.prepare(name, seed, data, CACHE)
        for case, folder in cases.items():
            for variant, options in VARIANTS.items():
                with tempfile.TemporaryDirectory() as work:
                    given = _measure(folder, Path(work), max_epochs, threads, options)
                figures = answers.score(tasks.Truth.read(folder), given)
                results.update(f"ablation.{case}", seed, max_epochs, threads, variant, figures)
        print(f"\n{name}, seed {seed}, at most {max_epochs} epochs\n")
        titles = {variant: variant for variant in VARIANTS}
        print(tables.table([f"ablation.{case}" for case in cases], [seed], max_epochs, titles))


def _measure(folder: Path, work: Path, max_epochs: int, threads: int, options: dict[str, Any]) -> answers.Answers:
    task = tasks.Task.read(folder)
    reference = ad.read_h5ad(folder / task.reference)
    label = reference.obs[task.labels_key].astype(str)
    reference.obs["label"] = label.where(~label.isin(task.unlabelled), "unlabelled")
    TOTALANVI.setup_anndata(
        reference,
        protein_expression_obsm_key=task.proteins_key,
        labels_key="label",
        unlabeled_category="unlabelled",
        batch_key=task.batch_key,
    )
    model = TOTALANVI(reference, seed=task.seed)
    model.train(max_epochs=max_epochs, progress=False, **options)
    model.save(work / "checkpoint")
    commands = product_run.Commands(threads)
    commands("export", "export", work / "checkpoint", "-o", work / "bundle")
    return product_run.map_queries(folder, work / "bundle", work, commands)


if __name__ == "__main__":
    typer.run(main)
