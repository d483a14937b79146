"""The command ``totalanvi``: gathers the sub-commands that are installed, and says plainly what went wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Annotated, Any

import typer

__all__ = ["build_app", "main"]

COMMANDS = ("simulate", "train", "export", "map", "serve", "info", "demo")
"""In the order in which help lists them."""

EXTRAS = {
    "torch": "train",
    "lightning": "train",
    "sklearn": "train",
    "onnx": "export",
    "onnxscript": "export",
    "umap": "export",
    "onnxruntime": "serve",
    "bentoml": "serve",
    "safetensors": "serve",
    "httpx": "client",
    "pyarrow": "client",
    "matplotlib": "demo",
}
"""Which extra of this package brings a package that a command may miss."""

EXIT_MISSING_PACKAGE = 2
EXIT_INTERRUPTED = 130


def build_app() -> typer.Typer:
    """Assemble the command line from entry-point group ``totalanvi.commands``, so that no part imports another."""
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
    for name in sorted(found, key=_rank):
        try:
            command = found[name].load()
        except (ImportError, AttributeError) as error:
            app.command(name, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
                _unavailable(error)
            )
        else:
            app.command(name)(command)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``totalanvi`` and exit.

    Parameters
    ----------
    arguments
        What follows the command's name; None takes them from the process.

    Notes
    -----
    Exit codes: 0 done; 2 something the user can mend (an error that has an `exit_code` names its own); 130 interrupted;
    1 with a traceback for a bug.
    """
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    try:
        command = typer.main.get_command(build_app())
        return _finish(command.main(args=arguments, prog_name="totalanvi", standalone_mode=False))
    except (KeyboardInterrupt, typer.Abort):
        return _finish(EXIT_INTERRUPTED)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        _complain(
            f"Expected the package {package!r} for this command; found that it cannot be imported here ({error}). "
            f"Install the extra that brings it: pip install 'totalanvi[{EXTRAS[package]}]'"
        )
        return EXIT_MISSING_PACKAGE
    except Exception as error:
        code: int | None = getattr(error, "exit_code", None)
        if code is None:
            raise
        if hasattr(error, "show"):
            # A slip on the command line: typer shows the usage as well.
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
        typer.echo(f"totalanvi {metadata.version('totalanvi')}")
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


def _rank(name: str) -> tuple[int, str]:
    return (COMMANDS.index(name) if name in COMMANDS else len(COMMANDS), name)


def _unavailable(error: Exception) -> Callable[..., Any]:
    """Stand in for a command that cannot be imported, so that the others work and help lists it."""

    def command(context: typer.Context) -> None:
        raise error

    command.__doc__ = f"(not available: {error})"
    return command
