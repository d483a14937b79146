"""Pull a bundle from a hub: nothing is kept unless all of it is what its manifest says."""

from __future__ import annotations

import tempfile
from pathlib import Path

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.manifest import MANIFEST_FILE
from totalanvi.serving.bundles.manifest_file import parse_manifest, read_manifest
from totalanvi.serving.bundles.place import require_place
from totalanvi.serving.bundles.signature import SIGNATURE_FILE
from totalanvi.serving.errors import HubError
from totalanvi.serving.hub.talking import hub_api, talking_to_hub
from totalanvi.serving.outputs.output import OutputPlan, require_parent, staged

__all__ = ["pull_bundle"]


def pull_bundle(repository: str, output: str | Path, revision: str | None = None, overwrite: bool = False) -> Bundle:
    """Pull a bundle into a new folder.

    Of the repository's files, only the manifest, its signature and what it lists are fetched, all of one commit.

    Parameters
    ----------
    repository
        ``"owner/name"``.
    output
        Folder to make; it appears when all of it is there and verified.
    revision
        Branch, tag or commit; the main branch by default.
    overwrite
        Replace a bundle that is there.

    Returns
    -------
    Bundle
        Opened.

    Raises
    ------
    OutputError
        When the folder may not be made.
    HubError
        When the hub cannot be reached, or has no such repository or bundle.
    BundleError
        When what came is not what its manifest says.

    Examples
    --------
    >>> pull_bundle("lab/pbmc", "bundle/").manifest.labels  # doctest: +SKIP
    ['B cell', 'CD4 T', 'CD8 T', 'NK']
    """
    target = Path(output)
    require_parent(target, "bundle")
    require_place(target, overwrite)
    with staged(OutputPlan(target, "parts")) as folder:
        folder.mkdir()
        # The client leaves notes of its own beside what it fetches.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetched-") as room, talking_to_hub(repository):
            api = hub_api()
            commit = api.repo_info(repository, revision=revision).sha
            if commit is None:
                raise HubError(f"{repository}: expected a commit, found an empty repository; push a bundle to it.")

            def fetch(name: str) -> None:
                Path(api.hf_hub_download(repository, name, revision=commit, local_dir=room)).rename(folder / name)

            fetch(MANIFEST_FILE)
            for name in parse_manifest(folder, read_manifest(folder)).files:
                fetch(name)
            if api.file_exists(repository, SIGNATURE_FILE, revision=commit):
                fetch(SIGNATURE_FILE)
        Bundle.open(folder)
    return Bundle.open(target)
