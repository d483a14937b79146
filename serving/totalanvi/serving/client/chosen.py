"""Which of an endpoint's references a client means: by the address, or by name."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.errors import EndpointError

__all__ = ["asking_for", "full_name", "split_reference"]


def split_reference(url: str, reference: str | None) -> tuple[str, str | None]:
    """Take the name of a reference off an endpoint's address.

    Parameters
    ----------
    url
        The address, with ``?reference=NAME`` or without.
    reference
        The name, where it was given beside the address.

    Raises
    ------
    EndpointError
        When the address asks for anything else, or for another reference.

    Examples
    --------
    >>> split_reference("http://localhost:3000/?reference=pbmc@2", None)
    ('http://localhost:3000/', 'pbmc@2')
    """
    try:
        parts = urlsplit(url)
        asked = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        asked = {"": ""}
    named = asked.pop("reference", None)
    if asked or (named is not None and reference not in (None, named)):
        raise EndpointError(
            f"{url!r}: expected an endpoint's URL such as http://localhost:3000, or with ?reference=NAME behind it, "
            "found another form; name the reference once, there or with `reference`."
        )
    if named is None:
        return url, reference
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")), named


def full_name(info: ReferenceInfo) -> str:
    """Name a reference and its version, so that all chunks of a query go to the same one."""
    return f"{info.name}@{info.version}"


def asking_for(path: str, reference: str | None) -> str:
    """Return a route's path for a reference, None for the default one.

    Examples
    --------
    >>> asking_for("/v1/info", "pbmc@2")
    '/v1/info?reference=pbmc%402'
    """
    return path if reference is None else f"{path}?reference={quote(reference, safe='')}"
