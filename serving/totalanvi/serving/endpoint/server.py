"""Start an endpoint in the foreground, once everything that can be checked beforehand is in order."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from totalanvi.serving.endpoint.access.settings import KEYS_FILE_VARIABLE, NO_AUTH_VARIABLE, AccessSettings
from totalanvi.serving.endpoint.catalogue import Catalogue
from totalanvi.serving.endpoint.settings import Settings, joined
from totalanvi.serving.errors import BundleError, EndpointError
from totalanvi.serving.garbage import left_alone
from totalanvi.serving.reference import find_bundle, is_url
from totalanvi.serving.wire.limits import variable

__all__ = ["serve"]

_POLL_SECONDS = 0.2
_LAST_PORT = 65535


def serve(
    *bundles: str | os.PathLike[str],
    host: str = "127.0.0.1",
    port: int = 3000,
    references: str | os.PathLike[str] | None = None,
    default: str | None = None,
    config: str | os.PathLike[str] | None = None,
    keys: str | os.PathLike[str] | None = None,
    no_auth: bool = False,
) -> None:
    """Serve bundles until SIGINT or SIGTERM; requests at work are answered before this returns.

    Parameters
    ----------
    bundles
        Folders of bundles, or tags in the model store.
    host
        Name or address to listen on; ``0.0.0.0`` for every interface.
    port
        Port to listen on.
    references, default, config
        See `totalanvi.serving.endpoint.settings`; left out, what ``TOTALANVI_REFERENCES``,
        ``TOTALANVI_DEFAULT_REFERENCE`` and ``TOTALANVI_CONFIG`` say.
    keys
        File of the keys that requests have to carry; see `totalanvi.serving.endpoint.access.keys`.
    no_auth
        Whether everybody is let in at an address that other machines can reach.

    Raises
    ------
    BundleError
        When a bundle cannot be served.
    SettingsError
        When there is no bundle to serve, a setting or the file of keys cannot be used, or strangers could ask although
        neither keys nor `no_auth` are given.
    EndpointError
        When the address is not one of this machine's, or the port is in use.

    Examples
    --------
    >>> serve("bundle/", port=8080)  # doctest: +SKIP
    Serving pbmc 1 at http://127.0.0.1:8080 (press Ctrl+C to stop)
    """
    given: dict[str, str] = {}
    # The process that serves has another working directory.
    for name, path in (("references", references), ("config", config)):
        if path is not None:
            given[variable(name)] = str(Path(path).resolve())
    if keys is not None:
        given[KEYS_FILE_VARIABLE] = str(Path(keys).absolute())
    if no_auth:
        given[NO_AUTH_VARIABLE] = "1"
    if default is not None:
        given[variable("default_reference")] = default
    if bundles:
        given[variable("reference")] = joined([os.fspath(name) for name in bundles])
    settings = Settings.read(os.environ | given)
    for name in settings.reference:
        if is_url(name):
            raise BundleError(
                f"{name}: expected a bundle to serve, found the URL of an endpoint; name a folder or a tag."
            )
    folders = [find_bundle(name).resolve() for name in settings.reference]
    if folders:
        given[variable("reference")] = joined([str(folder) for folder in folders])
    catalogue = Catalogue(folders, settings.references, settings.default_reference)
    catalogue.look()
    if settings.default_reference is not None and catalogue.offers:
        catalogue.find(None)
    access = AccessSettings.from_environment(os.environ | given)
    address = _require_free(host, port)
    access.require_for(address)
    os.environ.update(given)

    with left_alone():
        from totalanvi.serving.endpoint import service

    # BentoML's decorator turns the class into a service, which its types do not say.
    bento: Any = service.TotalanviService
    stopped = threading.Event()
    served = ", ".join(f"{offer.info.name} {offer.info.version}" for offer in catalogue.offers)
    message = (
        f"Serving {served or settings.references} at {_url(host, port)} (press Ctrl+C to stop)\n"
        f"In a browser: {_url(_asked(address), port)}/"
    )
    threading.Thread(target=_announce, args=(_asked(address), port, message, stopped), daemon=True).start()
    try:
        bento.serve_http(host=address, port=port)
    finally:
        stopped.set()


def _require_free(host: str, port: int) -> str:
    """Return the numeric address of a host name, after listening there for a moment."""
    if not 1 <= port <= _LAST_PORT:
        raise EndpointError(f"Expected a port from 1 to {_LAST_PORT}, found {port}; choose another with --port.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        raise EndpointError(
            f"Expected to listen on {host}, port {port}; found that impossible ({error.strerror}). "
            "Stop what uses the port, choose another with --port, or an address of this machine with --host."
        ) from error
    return str(address[0])


def _announce(address: str, port: int, message: str, stopped: threading.Event) -> None:
    """Print the message once the endpoint is ready."""
    # Of the standard library: asked five times a second, a client that reads certificates each time slows the start.
    while not stopped.wait(_POLL_SECONDS):
        connection = HTTPConnection(address, port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            ready = connection.getresponse().status == HTTPStatus.OK
        except (OSError, HTTPException):
            continue
        finally:
            connection.close()
        if ready:
            print(message, flush=True)
            return


def _asked(address: str) -> str:
    """Return where to ask a server that listens at an address: a wildcard is no place to connect to."""
    found = ipaddress.ip_address(address)
    if not found.is_unspecified:
        return address
    return "127.0.0.1" if found.version == 4 else "::1"


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
