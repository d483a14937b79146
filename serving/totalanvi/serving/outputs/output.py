"""Where results go: judged before any work begins, made beside their place, and put there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from totalanvi.formats.stores import MATRIX_FILES
from totalanvi.serving.errors import OutputError
from totalanvi.serving.queries.query import Kind

__all__ = ["Format", "OutputPlan", "is_folder_output", "plan_output", "plan_report", "require_parent", "staged"]

Format = Literal["h5ad", "h5mu", "parquet", "parts", "json", "html"]

_SUFFIXES: dict[str, Format] = {".h5ad": "h5ad", ".h5mu": "h5mu", ".parquet": "parquet"}
_REPORT_SUFFIXES: dict[str, Format] = {".json": "json", ".html": "html"}


@dataclass(frozen=True)
class OutputPlan:
    """Where the output goes, and as what.

    Parameters
    ----------
    path
        A file, or for ``"parts"`` a folder.
    format
        An annotated copy of the query (``"h5ad"``, ``"h5mu"``), one table (``"parquet"``), or a folder with a table for
        each chunk of cells (``"parts"``). A report is ``"json"``, or a page, ``"html"``.
    """

    path: Path
    format: Format

    def require_kind(self, kind: Kind) -> None:
        """Refuse a format that cannot hold this kind of query.

        Raises
        ------
        OutputError
            When an AnnData is to be written as MuData.
        """
        if self.format == "h5mu" and kind == "anndata":
            raise OutputError(
                f"Expected a MuData query for an .h5mu output; found an AnnData. "
                f"Name the output {str(self.path.with_suffix('.h5ad'))!r} instead."
            )


def plan_output(output: str, query: Path, overwrite: bool = False) -> OutputPlan:
    """Judge an output before any work begins.

    Parameters
    ----------
    output
        A file ending in ``.h5ad``, ``.h5mu`` or ``.parquet``; or a folder: one that exists, or a name that ends in a
        slash or has no suffix.
    query
        The query's file, which is never replaced.
    overwrite
        Whether what exists may be replaced. A folder may be only when it holds nothing but parts of an earlier run.

    Raises
    ------
    OutputError
        When the suffix is unknown, the output exists, is the query itself or a part of it, or has no folder to stand
        in.
    """
    path = Path(output)
    plan = OutputPlan(path, _format(output, path))
    require_parent(path, "output")
    if _is_part(path, query) or (path.exists() and query.exists() and path.samefile(query)):
        raise OutputError(
            f"Expected an output other than the query, and outside of it; found {output!r}. Choose another."
        )
    if not path.exists():
        return plan
    if path.is_dir() != (plan.format == "parts"):
        found, wanted = ("a folder", "a file") if path.is_dir() else ("a file", "a folder")
        raise OutputError(f"Expected {wanted} at {output!r}; found {found}. Choose another output.")
    if not overwrite:
        raise OutputError(
            f"Expected an output that does not exist yet; found {output!r}. Choose another, or allow to replace it "
            f"(--overwrite)."
        )
    if plan.format == "parts":
        _require_only_parts(path)
    return plan


def require_parent(path: Path, what: str) -> None:
    """Refuse a place that is in no folder.

    Parameters
    ----------
    path
        The place.
    what
        Is to go there.

    Raises
    ------
    OutputError
        When there is no such folder.
    """
    if not path.absolute().parent.is_dir():
        raise OutputError(f"Expected a folder for the {what}; found none at {str(path.parent)!r}. Create it.")


def plan_report(report: Path, taken: Sequence[Path], overwrite: bool = False) -> OutputPlan:
    """Judge where a report goes before any work begins.

    Parameters
    ----------
    report
        A file ending in ``.json`` or ``.html``, which decides what it will be.
    taken
        The query and the output, neither of which it may be or stand in.
    overwrite
        Whether a file that exists may be replaced.

    Raises
    ------
    OutputError
        When the suffix is another, the file exists or is one of `taken` or a part of it, or has no folder to stand in.
    """
    if report.suffix not in _REPORT_SUFFIXES:
        raise OutputError(f"Expected a report that ends in .html or .json; found {str(report)!r}. Name it so.")
    require_parent(report, "report")
    if any(_is_part(report, path) for path in taken):
        raise OutputError(
            f"Expected a report other than query and output, and in neither of them; found {str(report)!r}. Choose "
            f"another."
        )
    if report.is_dir() or (report.exists() and not overwrite):
        raise OutputError(
            f"Expected a report that does not exist yet; found {str(report)!r}. Choose another, or allow to replace a "
            f"file (--overwrite)."
        )
    return OutputPlan(report, _REPORT_SUFFIXES[report.suffix])


def _is_part(path: Path, whole: Path) -> bool:
    """Tell whether a path leads to a file or folder or into it, whatever dots and links it takes."""
    found, target = Path(os.path.realpath(path)), Path(os.path.realpath(whole))
    # A 10x matrix is three files, beside which there may be others.
    return found == target or (target in found.parents and not any((whole / name).exists() for name in MATRIX_FILES))


def is_folder_output(output: str) -> bool:
    """Tell whether an output is a folder, by its name or by what is there.

    Examples
    --------
    >>> is_folder_output("scored/"), is_folder_output("labels.parquet")
    (True, False)
    """
    path = Path(output)
    return output.endswith(("/", os.sep)) or not path.suffix or (path.suffix not in _SUFFIXES and path.is_dir())


def _format(output: str, path: Path) -> Format:
    if is_folder_output(output):
        return "parts"
    if path.suffix in _SUFFIXES:
        return _SUFFIXES[path.suffix]
    raise OutputError(
        f"Expected an output that ends in .h5ad, .h5mu or .parquet, or a folder (ending in /); found {output!r}. "
        f"Name one of these."
    )


def _require_only_parts(folder: Path) -> None:
    foreign = sorted(entry.name for entry in folder.iterdir() if not entry.match("part-*.parquet"))
    if foreign:
        raise OutputError(
            f"Expected a folder that holds nothing but the parts of an earlier run; found {foreign[0]!r} in "
            f"{str(folder)!r}, which would be lost. Choose another folder."
        )


@contextmanager
def staged(plan: OutputPlan) -> Iterator[Path]:
    """Give a place to write to, beside the output; what was written there becomes the output when all went well.

    Whatever ends the work early, an interrupt included, leaves the output as it was and nothing beside it.

    Raises
    ------
    OutputError
        When nothing can be written there.
    """
    target = plan.path.absolute()
    try:
        room = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OutputError(
            f"Expected to write in {str(target.parent)!r}; found that this fails ({error.strerror}). "
            f"Choose another place, or change its permissions."
        ) from error
    try:
        made = room / target.name
        yield made
        if target.is_dir():
            # Whatever the output is called, no other thing in the room has this name.
            _replace_folder(made, target, aside=room / f"{target.name}.replaced")
        else:
            made.replace(target)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _replace_folder(made: Path, target: Path, aside: Path) -> None:
    """Swap folders: unlike files, these cannot be replaced in one step."""
    try:
        target.rename(aside)
        made.rename(target)
    except BaseException:
        # A signal may come when the first one is done, or the second.
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise
