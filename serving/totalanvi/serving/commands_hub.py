"""The sub-commands ``totalanvi push`` and ``totalanvi pull``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from totalanvi.machine.still_going import still_going

__all__ = ["pull", "push"]

RepositoryArgument = Annotated[
    str, typer.Argument(metavar="REPO_ID", help="Repository at the hub, such as owner/name.", show_default=False)
]


def push(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder.", show_default=False)],
    repository: RepositoryArgument,
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody read a repository that is made; only you may otherwise.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Branch to push to.", show_default="main")
    ] = None,
) -> None:
    """Push a bundle to the Hugging Face hub, as the user that `hf auth login` or HF_TOKEN says."""
    from totalanvi.serving.hub.push import push_bundle

    with still_going(lambda: f"Pushing to {repository}", unless_terminal=True):
        pushed = push_bundle(bundle, repository, public, revision)
    typer.echo(f"Pushed:     {pushed}")


def pull(
    repository: RepositoryArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="BUNDLE/", help="Folder to write.", show_default=False)
    ],
    revision: Annotated[
        str | None, typer.Option(metavar="REVISION", help="Branch, tag or commit.", show_default="main")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that exists.")] = False,
) -> None:
    """Pull a bundle from the Hugging Face hub; nothing is kept unless its digests are right."""
    from totalanvi.serving.hub.pull import pull_bundle

    with still_going(lambda: f"Pulling {repository}", unless_terminal=True):
        bundle = pull_bundle(repository, output, revision, overwrite)
    typer.echo(f"Reference:  {bundle.manifest.name} {bundle.manifest.version}")
    typer.echo(f"Digest:     {bundle.digest}")
    typer.echo(f"Output:     {output}")
