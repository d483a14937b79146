"""The command ``totalanvi``: gathers the sub-commands that are installed, and says plainly what went wrong."""

from __future__ import annotations

import errno
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from totalanvi.serving.version import software_version

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ["build_app", "main"]

COMMANDS = {
    "simulate": "Simulate a CITE-seq reference with a known truth.",
    "train": "Train a reference.",
    "import-scvi": "Take over a reference that scvi-tools trained and saved.",
    "export": "Export a trained reference as a bundle to be served.",
    "map": "Map a query's file, or many, to a reference.",
    "report": "Write a page about a mapped query.",
    "push": "Push a bundle to the Hugging Face hub.",
    "pull": "Pull a bundle from the Hugging Face hub.",
    "serve": "Start an endpoint that maps queries to a reference.",
    "new-key": "Make a key for an endpoint.",
    "info": "Say what a reference is, what it knows and how well it did.",
    "demo": "Run all of it on simulated cells.",
}
"""What help lists, in this order. It stands here so that help need not import what each command imports."""

OPTIONAL_PACKAGES = {
    *("torch", "lightning", "torchmetrics", "sklearn", "captum", "onnx", "onnxscript", "umap", "matplotlib"),
    *("onnxruntime", "numba", "bentoml", "prometheus_client", "safetensors", "starlette", "httpx", "pyarrow"),
    *("httpx2", "huggingface_hub", "ray"),
}
"""What a command may miss because no extra brought it."""

EXTRAS = {
    "simulate": "train",
    "train": "train",
    "import-scvi": "train",
    "export": "export",
    "map": "serve",
    "report": "serve",
    "push": "hub",
    "pull": "hub",
    "serve": "serve",
    "new-key": "serve",
    "info": "serve",
    "demo": "demo",
}
"""Which extra of this package brings all that a command needs."""

PACKAGE_EXTRAS = {"httpx": "client", "pyarrow": "client", "ray": "ray"}
"""What a command misses that has another extra: the smaller one will do at an endpoint, and few need Ray."""

EXIT_MISSING_PACKAGE = 2
EXIT_NO_PLACE = 2
EXIT_NO_MEMORY = 2
EXIT_INTERRUPTED = 130
"""128 and the signal's number, as shells have it."""

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""What tells a command to end; the second comes when its terminal is closed or the connection to it is lost."""

_SOON = 0.05
"""Seconds after which a signal is delivered anew: what swallowed it is left by then."""

NO_PLACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}
"""What the system says when a file cannot be made. A disk may fill up in the middle of any command that writes."""


def build_app(command: str | None) -> typer.Typer:
    """Assemble the command line from entry-point group ``totalanvi.commands``, so that no part imports another.

    Parameters
    ----------
    command
        The sub-command that is to run: the only one that is imported, whatever the others need.
    """
    # Without rich's boxes, messages stay on one line each, whatever the width of the terminal, and can be searched for.
    app = typer.Typer(
        name="totalanvi",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    found = {entry.name: entry for entry in metadata.entry_points(group="totalanvi.commands")}
    for name, summary in COMMANDS.items():
        if name in found:
            app.command(name, short_help=summary)(found[name].load() if name == command else _not_imported)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``totalanvi`` and exit.

    Parameters
    ----------
    arguments
        What follows the command's name; None takes them from the process.

    Notes
    -----
    Exit codes: 0 done; 2 something the user can mend (an error that has an `exit_code` names its own); 3 some of many
    queries could not be mapped; 130 interrupted; 143 told to end (SIGTERM), 129 by SIGHUP; 1 with a traceback for a
    bug.
    """
    with _orderly_end():
        sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


@contextmanager
def _orderly_end() -> Iterator[None]:
    """Let `ENDING` unwind the stack, so that what is half-written goes; by default they end the process on the spot."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Under nohup, SIGHUP is ignored, and stays so.
    heard = [number for number in ENDING if signal.getsignal(number) == signal.SIG_DFL]
    for number in heard:
        signal.signal(number, _end)
    others = sys.unraisablehook

    def tell_again(lost: UnraisableHookArgs) -> None:
        """Deliver anew what ended up where Python lets no exception out, as in the callback of a weak reference."""
        if isinstance(lost.exc_value, KeyboardInterrupt | _ToldToEndError):
            for number in heard:
                signal.signal(number, _end)
            told = lost.exc_value.signal if isinstance(lost.exc_value, _ToldToEndError) else signal.SIGINT
            again = threading.Timer(_SOON, signal.raise_signal, [told])
            again.daemon = True
            again.start()
        else:
            others(lost)

    sys.unraisablehook = tell_again
    try:
        yield
    finally:
        sys.unraisablehook = others
        for number in heard:
            signal.signal(number, signal.SIG_DFL)


class _ToldToEndError(SystemExit):
    """One of `ENDING` has come; a `SystemExit`, so that nothing on the way takes it for a failure that it can mend."""

    code: int

    def __init__(self, told: signal.Signals) -> None:
        super().__init__(128 + told)
        self.signal = told


def _end(number: int, frame: FrameType | None) -> None:
    # Another would interrupt the tidying up.
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise _ToldToEndError(signal.Signals(number))


def _run(arguments: list[str]) -> int:
    # No option of the root takes a value, so the first other word is the sub-command.
    name = next((word for word in arguments if not word.startswith("-")), None)
    try:
        command = typer.main.get_command(build_app(name))
        return _finish(command.main(args=arguments, prog_name="totalanvi", standalone_mode=False))
    except (KeyboardInterrupt, typer.Abort):
        return _finish(EXIT_INTERRUPTED)
    except _ToldToEndError as told:
        _complain(f"told to end ({told.signal.name}).")
        return int(told.code)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in OPTIONAL_PACKAGES or name not in EXTRAS:
            raise
        extra = PACKAGE_EXTRAS.get(package, EXTRAS[name])
        _complain(
            f"Expected the package {package!r} for this command; found that it cannot be imported here ({error}). "
            f"Install the extra that brings it: pip install 'totalanvi[{extra}]', or '.[{extra}]' in a checkout."
        )
        return EXIT_MISSING_PACKAGE
    except OSError as error:
        if error.errno not in NO_PLACE:
            raise
        what = "the output" if error.filename is None else repr(str(error.filename))
        _complain(
            f"Expected to open and write {what}; found that this fails ({error.strerror or error}). Make room, change "
            f"permissions, or choose another place."
        )
        return EXIT_NO_PLACE
    except MemoryError as error:
        _complain(
            f"Expected memory enough for this, found too little ({error or 'none left'}). Take fewer cells or features "
            "at once, or a machine with more."
        )
        return EXIT_NO_MEMORY
    except Exception as error:
        code: int | None = getattr(error, "exit_code", None)
        if code is None:
            raise
        if hasattr(error, "show"):
            # A slip on the command line: typer shows the usage as well. It judges choices by pydantic, which says whose
            # words these are.
            if isinstance(said := getattr(error, "message", None), str):
                error.__dict__["message"] = said.removeprefix("Value error, ")
            error.show()
        else:
            _complain(str(error))
        return code


def _finish(code: int | None) -> int:
    if code == EXIT_INTERRUPTED:
        _complain("interrupted.")
    return code or 0


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"totalanvi {software_version()}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Map single cells onto a CITE-seq reference: train it, export it, serve it, query it."""


def _complain(message: str) -> None:
    typer.echo(f"Error: {message}", err=True)


def _not_imported() -> None:
    """Hold the place of a command that help lists but that is not to run."""
