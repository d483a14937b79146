"""References in memory: loaded when they are asked for, within a budget, and never taken from a request at work.

Whoever maps holds a `Lease`: what it was given stays whole until the lease ends, whatever becomes of the bundle on
disk meanwhile. What nobody uses is let go of when room is needed, the longest unused first.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from totalanvi.serving.endpoint.catalogue import Catalogue, Offer
from totalanvi.serving.errors import BundleError, NotReadyError, ServingError, UnknownReferenceError
from totalanvi.serving.mapping.local import LocalReference

__all__ = ["Lease", "References"]

MEMORY_PER_BYTE = 4
"""Memory that a reference takes, per byte of its files: 3.0 with a readout, 4.1 without, measured at 4,000 genes."""

_KEEP_SECONDS = 60.0
"""How long a reference that was withdrawn answers those who name its version, after the last of them."""

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Loaded:
    offer: Offer
    reference: LocalReference
    users: int = 0
    used: float = field(default_factory=time.monotonic)


class Lease:
    """A loaded reference that stays loaded until it is given back.

    Attributes
    ----------
    offer : Offer
        What was asked for.
    reference : LocalReference
        What computes it.
    """

    def __init__(self, loaded: _Loaded, lock: threading.Lock) -> None:
        self.offer = loaded.offer
        self.reference = loaded.reference
        self._loaded = loaded
        self._lock = lock

    def release(self) -> None:
        """Give it back, once."""
        with self._lock:
            self._loaded.users -= 1
            self._loaded.used = time.monotonic()


class References:
    """All references of an endpoint.

    Parameters
    ----------
    catalogue
        Which there are.
    open_reference
        Opens a bundle's folder.
    memory_bytes
        What those in memory may take together, by the size of their files; None for no limit.
    poll_seconds
        How often the folder of bundles is looked at.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        open_reference: Callable[[Path], LocalReference] = LocalReference,
        memory_bytes: int | None = None,
        poll_seconds: float = 2.0,
    ) -> None:
        self.catalogue = catalogue
        self._open_reference = open_reference
        self._memory_bytes = memory_bytes
        self._poll_seconds = poll_seconds
        self._loaded: dict[str, _Loaded] = {}
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="totalanvi-load")
        self._stopped = threading.Event()
        self._warm = False
        self._failure: ServingError | None = None

    @property
    def ready(self) -> bool:
        """Whether there are references, and the default one has been loaded and warm."""
        return self._warm and bool(self.catalogue.offers)

    @property
    def loaded(self) -> list[Offer]:
        """What is in memory."""
        with self._lock:
            return [loaded.offer for loaded in self._loaded.values()]

    def default(self) -> Offer | None:
        """Return what a request means that names none, None where it has to name one."""
        try:
            return self.catalogue.find(None)
        except (UnknownReferenceError, NotReadyError):
            return None

    def provider(self, offer: Offer) -> str | None:
        """Say what computes a reference, None while it is not loaded."""
        with self._lock:
            loaded = self._loaded.get(offer.digest)
        return None if loaded is None else loaded.reference.engine.provider

    def start(self) -> None:
        """Look at the bundles and load the default one in the background; then keep an eye on the folder."""
        threading.Thread(target=self._watch, name="totalanvi-watch", daemon=True).start()

    def close(self) -> None:
        """Stop looking and loading."""
        self._stopped.set()
        self._loader.shutdown(wait=False, cancel_futures=True)

    def look(self) -> None:
        """Look at the bundles once, and see that the default reference has been loaded."""
        try:
            self.catalogue.look(self._before_offering)
            if not self._warm:
                self._load_default()
            self._failure = None
        except ServingError as error:
            self._fail(error, str(error))
        except Exception as error:
            hidden = ServingError("The reference cannot be served; its log on the server says why.")
            hidden.http_status = 500
            self._fail(hidden, type(error).__name__, exc_info=True)
        self._forget_withdrawn()

    def find(self, name: str | None) -> Offer:
        """Return the reference that a request means, see `Catalogue.find`.

        A version that was withdrawn answers to its full name for as long as it is in memory.

        Raises
        ------
        ServingError
            When there is none: `UnknownReferenceError`, `NotReadyError`, or what made loading fail.
        """
        if not self._warm:
            raise self._failure or NotReadyError(
                "The endpoint is still loading its reference; ask again in some seconds."
            )
        try:
            return self.catalogue.find(name)
        except (UnknownReferenceError, NotReadyError):
            for offer in self.loaded:
                if name == offer.full_name:
                    return offer
            raise

    async def lease(self, offer: Offer) -> Lease:
        """Wait until a reference is loaded, and hold on to it.

        Raises
        ------
        NotReadyError
            When there is no room for it: others are at work.
        BundleError
            When it cannot be loaded.
        """
        while (lease := self._take(offer)) is None:
            await asyncio.get_running_loop().run_in_executor(self._loader, self._load, offer)
        return lease

    def _take(self, offer: Offer) -> Lease | None:
        with self._lock:
            loaded = self._loaded.get(offer.digest)
            if loaded is None:
                return None
            loaded.users += 1
        return Lease(loaded, self._lock)

    def _watch(self) -> None:
        self.look()
        while self.catalogue.folder is not None and not self._stopped.wait(self._poll_seconds):
            self.look()

    def _fail(self, shown: ServingError, logged: str, exc_info: bool = False) -> None:
        if self._failure is None or str(self._failure) != str(shown):
            _log.error("The reference cannot be served: %s", logged, exc_info=exc_info)
        self._failure = shown

    def _load_default(self) -> None:
        try:
            offer = self.catalogue.find(None)
        except UnknownReferenceError:
            # Without a default one, each is loaded when it is asked for; a default one may still be put there.
            self._warm = self.catalogue.default_name is None
            return
        self._load(offer)
        self._warm = True

    def _before_offering(self, offer: Offer) -> None:
        """Load a new version of what is in use before it is offered, so that no request waits for it."""
        if offer.info.name in {other.info.name for other in self.loaded}:
            try:
                self._load(offer)
            except NotReadyError as error:
                _log.info("%s is loaded when it is asked for: %s", offer.full_name, error)

    def _load(self, offer: Offer) -> None:
        with self._loading:
            with self._lock:
                if offer.digest in self._loaded:
                    return
            self._make_room(offer)
            reference = self._open_reference(offer.folder)
            if reference.bundle.digest != offer.digest:
                raise BundleError(
                    f"{offer.full_name}: expected the bundle that was verified, found another; ask again, or restart."
                )
            reference.engine.warm()
            with self._lock:
                self._loaded[offer.digest] = _Loaded(offer, reference)
            _log.info("Serving %s (%s) on %s.", offer.full_name, offer.digest[:12], reference.engine.provider)

    def _make_room(self, offer: Offer) -> None:
        """Let go of what nobody uses until there is room for another reference."""
        if self._memory_bytes is None:
            return
        needed = MEMORY_PER_BYTE * offer.n_bytes
        if needed > self._memory_bytes:
            raise BundleError(
                f"{offer.full_name}: expected a reference that takes at most {self._memory_bytes} bytes of memory, "
                f"found one of about {needed}; raise TOTALANVI_MEMORY_BYTES."
            )
        with self._lock:
            taken = MEMORY_PER_BYTE * sum(loaded.offer.n_bytes for loaded in self._loaded.values())
            unused = sorted((one for one in self._loaded.values() if not one.users), key=lambda one: one.used)
            for loaded in unused:
                if taken + needed <= self._memory_bytes:
                    break
                taken -= MEMORY_PER_BYTE * loaded.offer.n_bytes
                self._unload(loaded)
        if taken + needed > self._memory_bytes:
            raise NotReadyError(
                f"{offer.full_name}: the memory for references is taken by others that are at work; ask again in some "
                "seconds, or raise TOTALANVI_MEMORY_BYTES."
            )
        gc.collect()

    def _forget_withdrawn(self) -> None:
        """Let go of what is no longer offered and was not used for a while."""
        offered = {offer.digest for offer in self.catalogue.offers}
        latest = time.monotonic() - _KEEP_SECONDS
        with self._lock:
            for loaded in list(self._loaded.values()):
                if loaded.offer.digest not in offered and not loaded.users and loaded.used < latest:
                    self._unload(loaded)

    def _unload(self, loaded: _Loaded) -> None:
        del self._loaded[loaded.offer.digest]
        _log.info("%s is no longer in memory.", loaded.offer.full_name)
