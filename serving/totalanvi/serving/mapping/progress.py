"""How far mapping is, on stderr: a bar where there is a terminal to show it on, or a line now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from totalanvi.machine.still_going import still_going

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """Show progress over `total` cells, if `wanted`; yields a function to be told how many more are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if wanted and not console.is_terminal:
        done = [0]
        with still_going(lambda: f"Mapping cells, {sum(done):,} of {total:,} done"):
            yield done.append
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not wanted) as bar:
        task = bar.add_task("Mapping cells", total=total)
        yield lambda n_cells: bar.advance(task, n_cells)
