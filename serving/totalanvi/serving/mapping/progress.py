"""How far mapping is, on stderr: a bar at a terminal, or elsewhere a line now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from totalanvi.machine.still_going import at_terminal, still_going

__all__ = ["shown_progress"]


@contextmanager
def shown_progress(total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """Show progress over `total` cells, if `wanted`; yields a function to be told how many more are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), disable=not (wanted and at_terminal()))
    task = bar.add_task("Mapping cells", total=total)

    def so_far() -> str:
        return f"Mapping cells, {bar.tasks[0].completed:,.0f} of {total:,} done"

    with bar, still_going(so_far, unless_terminal=True) if wanted else nullcontext():
        yield lambda n_cells: bar.advance(task, n_cells)
