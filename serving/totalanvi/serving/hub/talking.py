"""What can go wrong with a hub, as one error that says what to do, and that never has a token in it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from totalanvi.serving.errors import HubError
from totalanvi.serving.version import software_version

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["hub_api", "talking_to_hub"]

_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN, if it is private"
_LONGEST = 300


def hub_api() -> HfApi:
    """Return what speaks to the hub that the environment names (``HF_ENDPOINT``), with the token that it has."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils.logging import set_verbosity
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if "HF_HUB_VERBOSITY" not in os.environ:
        # Of what goes wrong one error tells; the client would say it before each new try, in the server's words.
        set_verbosity(logging.ERROR)
    if not sys.stderr.isatty():
        disable_progress_bars()
    # Said here as well: the client itself reads it once, when it is first imported.
    endpoint = os.environ.get("HF_ENDPOINT") or None
    return HfApi(endpoint, library_name="totalanvi", library_version=software_version())


@contextmanager
def talking_to_hub(repository: str) -> Iterator[None]:
    """Turn whatever a hub, or the way there, says into an error of this part.

    Parameters
    ----------
    repository
        What is talked of.

    Raises
    ------
    HubError
        For errors of the hub's client and of the network.
    """
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise HubError(
            f"{repository}: expected the name of a repository, such as 'owner/name', found another "
            f"({_said(error)}); check the spelling."
        ) from None
    except errors.RevisionNotFoundError:
        raise HubError(f"{repository}: expected that revision, found none; look the revisions up at the hub.") from None
    except errors.EntryNotFoundError as error:
        raise HubError(
            f"{repository}: expected a bundle, found that a file of it is missing ({_said(error)}); check the name, or "
            "push the bundle again."
        ) from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"{repository}: expected a repository that may be read and written here, found none; check the name, and "
            f"{_LOG_IN}."
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        cure = _LOG_IN if status in (401, 403) else "try again later"
        raise HubError(
            f"{repository}: expected the hub to do it, found that it does not ({_said(error)}); {cure}."
        ) from None
    except (httpx2.HTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise HubError(
            f"{repository}: expected to reach the hub, found that it cannot be reached ({_said(error)}); check the "
            "network, and HF_ENDPOINT where it is set."
        ) from None
    except (RuntimeError, ValueError) as error:
        if isinstance(error, HubError) or hasattr(error, "exit_code"):
            raise
        # How the client puts uploads that failed, and cards that the hub does not take.
        raise HubError(
            f"{repository}: expected the hub to take the bundle, found that it does not ({_said(error)})."
        ) from None


def _said(error: BaseException) -> str:
    """Say an error in a line; a server might repeat what it was sent, so a token is taken out."""
    from huggingface_hub import get_token

    line = " ".join(str(error).split())
    token = get_token()
    if token:
        line = line.replace(token, "[token]")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
