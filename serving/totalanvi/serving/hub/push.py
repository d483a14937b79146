"""Push a bundle to a hub."""

from __future__ import annotations

from pathlib import Path

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.hub.talking import hub_api, talking_to_hub

__all__ = ["push_bundle"]


def push_bundle(bundle: str | Path, repository: str, public: bool = False, revision: str | None = None) -> str:
    """Push a bundle, all of it in one commit, and nothing else that lies in its folder.

    Parameters
    ----------
    bundle
        Its folder; it is verified first.
    repository
        ``"owner/name"``; it is made where there is none.
    public
        Whether a repository that is made may be read by everybody; one that is there stays as it is.
    revision
        Branch to push to; the main one by default.

    Returns
    -------
    Where the commit is.

    Raises
    ------
    BundleError
        When the bundle is not whole.
    HubError
        When the hub cannot be reached or refuses.

    Examples
    --------
    >>> push_bundle("bundle/", "lab/pbmc")  # doctest: +SKIP
    'https://huggingface.co/lab/pbmc/commit/…'
    """
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    with talking_to_hub(repository):
        from huggingface_hub import CommitOperationAdd

        api = hub_api()
        api.create_repo(repository, private=not public, exist_ok=True)
        # As they were verified; a file that changes meanwhile is noticed by whoever pulls.
        commit = api.create_commit(
            repository,
            [CommitOperationAdd(name, opened.path / name) for name in opened.file_names],
            commit_message=f"{manifest.name} {manifest.version}",
            revision=revision,
        )
    return commit.commit_url
