"""One name for a reference, wherever it is: a bundle's path, a model-store tag, or an endpoint's URL."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from totalanvi.serving.errors import BundleError

if TYPE_CHECKING:
    from totalanvi.serving.client import Client
    from totalanvi.serving.client.patience import Deadline
    from totalanvi.serving.mapping.local import LocalReference

__all__ = ["find_bundle", "is_url", "load_reference", "open_endpoint"]

_TAG = re.compile(r"[a-z0-9]([a-z0-9_.-]*[a-z0-9])?(:[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?")

_ADDRESS = re.compile(r"(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+|\[[0-9a-f:]+\]):[0-9]{1,5}([/?].*)?", re.IGNORECASE)
"""Where an endpoint may listen. A name without a dot and a number after its colon are a tag and its version."""


def load_reference(name: str | os.PathLike[str]) -> LocalReference | Client:
    """Load a reference by name.

    Parameters
    ----------
    name
        Folder of a bundle, tag in the BentoML model store (``pbmc``, ``pbmc:latest``, ``pbmc:3``), or URL of an
        endpoint, with ``?reference=NAME`` or ``?reference=NAME@VERSION`` for another than its default one. A folder of
        that name goes before a tag.

    Returns
    -------
    LocalReference or Client
        Both have ``map`` and ``info``.

    Raises
    ------
    BundleError
        When there is no such bundle, or it cannot be trusted.
    EndpointError
        When the endpoint cannot be reached.

    Examples
    --------
    >>> reference = load_reference("http://localhost:3000")  # doctest: +SKIP
    >>> annotated = reference.map(adata, impute=False)  # doctest: +SKIP
    """
    if is_url(name):
        from totalanvi.serving.client import Client

        return Client(os.fspath(name))
    folder = find_bundle(name)
    from totalanvi.serving.mapping.local import LocalReference

    return LocalReference(folder)


def open_endpoint(url: str, deadline: Deadline | None = None, resume: Path | None = None) -> Client:
    """Return a client for one query or one job, all of whose questions share a deadline.

    Parameters
    ----------
    url
        See `load_reference`.
    deadline
        When all has to be mapped; None for any time.
    resume
        See `totalanvi.serving.client.Client`.

    Raises
    ------
    EndpointError
        When the URL is none.

    Examples
    --------
    >>> open_endpoint("http://localhost:3000", Deadline(600)).info().name  # doctest: +SKIP
    'pbmc'
    """
    from totalanvi.serving.client import Client

    client = Client(url, resume=resume)
    return client if deadline is None else client.with_patience(deadline.patience())


def is_url(name: str | os.PathLike[str]) -> bool:
    """Tell an endpoint's URL from a folder or a tag."""
    return isinstance(name, str) and name.lower().startswith(("http://", "https://"))


def find_bundle(name: str | os.PathLike[str]) -> Path:
    """Find the folder of a bundle by its path or model-store tag; it is not opened.

    Raises
    ------
    BundleError
        When neither is there.
    """
    text = os.fspath(name)
    path = Path(text).expanduser()
    # An empty name is a variable that was not set, not the current folder.
    if text and path.exists():
        return path
    if not _TAG.fullmatch(text):
        raise _address_without_scheme(text) or BundleError(
            f"{text}: expected the folder of a bundle, a model-store tag or the URL (http:// or https://) of an "
            "endpoint, found nothing there; check the spelling."
        )
    return _find_in_store(text)


def _find_in_store(tag: str) -> Path:
    try:
        import bentoml
        from bentoml.exceptions import BentoMLException
    except ModuleNotFoundError as error:
        raise _address_without_scheme(tag) or BundleError(
            f"{tag}: expected the folder of a bundle, found nothing there, and without BentoML there is no model store "
            "to look in; check the path, or install totalanvi[serve]."
        ) from error
    try:
        return Path(bentoml.models.get(tag).path)
    except BentoMLException as error:
        raise _address_without_scheme(tag) or BundleError(
            f"{tag}: expected the folder of a bundle or a tag in the model store, found neither ({error}); check the "
            "spelling, or list the store with `bentoml models list`."
        ) from error


def _address_without_scheme(text: str) -> BundleError | None:
    """Return the error for a name that was nowhere found, where it looks like an endpoint's address."""
    if not _ADDRESS.fullmatch(text):
        return None
    return BundleError(
        f"{text}: expected the folder of a bundle, a model-store tag or the URL of an endpoint, found an address "
        f"without http://; for an endpoint give its URL, http://{text}."
    )
