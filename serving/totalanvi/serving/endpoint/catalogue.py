"""Which references an endpoint has: bundles that were named, and whatever lies in a folder of bundles right now.

A bundle is on offer once all of its files were verified. The folder is looked at again and again: only names, sizes
and times of files are compared, and what is new is verified before anyone is told of it. So bundles may be copied into
the folder and taken out of it while the endpoint runs.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.bundles.manifest import MANIFEST_FILE
from totalanvi.serving.errors import (
    BundleError,
    NotReadyError,
    ServingError,
    SettingsError,
    UnknownReferenceError,
)
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.listing import quoted
from totalanvi.serving.reference import find_bundle
from totalanvi.serving.wire.schemas import FeaturesAnswer

if TYPE_CHECKING:
    from totalanvi.serving.alignment.align import FeatureIndex

__all__ = ["Catalogue", "Offer", "bundle_folders"]

_MOST_NAMES = 50
"""Names in a message."""

_log = logging.getLogger(__name__)

Fingerprint = tuple[tuple[str, int, int], ...]
"""Name, size and time of each file of a folder: another one means that the folder was changed."""


@dataclass(frozen=True, eq=False)
class Offer:
    """A reference that can be asked for: a bundle whose files were verified.

    Parameters
    ----------
    folder
        Of the bundle.
    info
        What it says about itself.
    features
        What queries are aligned to.
    n_bytes
        Size of its files together.
    landmarks
        Places of its own cells on its map, (landmarks, 2).
    """

    folder: Path
    info: ReferenceInfo
    features: ReferenceFeatures
    n_bytes: int
    landmarks: npt.NDArray[np.float32]

    @classmethod
    def of(cls, bundle: Bundle) -> Offer:
        """Offer a bundle that was opened."""
        arrays, manifest = bundle.reference, bundle.manifest
        return cls(
            folder=bundle.path,
            info=ReferenceInfo.of(manifest, bundle.digest),
            features=ReferenceFeatures.from_manifest(manifest, arrays.gene_share.tolist(), arrays.gene_weight.tolist()),
            n_bytes=sum(record.bytes for record in manifest.files.values()),
            landmarks=arrays.coordinates,
        )

    @cached_property
    def index(self) -> FeatureIndex:
        """The features, ready to be looked up by name: made once, for it takes longer than mapping a cell."""
        # The process that supervises an endpoint has no use for alignment, nor for scipy.
        from totalanvi.serving.alignment.align import FeatureIndex

        return FeatureIndex(self.features)

    @cached_property
    def features_answer(self) -> bytes:
        """The body of ``/v1/features``."""
        return FeaturesAnswer(digest=self.info.features_digest, features=self.features).model_dump_json().encode()

    @property
    def digest(self) -> str:
        """Of the manifest, which names the whole bundle."""
        return self.info.digest

    @property
    def full_name(self) -> str:
        """Name and version, as a request may ask for them."""
        return f"{self.info.name}@{self.info.version}"

    def answers_to(self, name: str) -> bool:
        """Tell whether a request that names a reference may mean this one."""
        return name in (self.info.name, self.full_name)


class Catalogue:
    """What there is to choose from. May be asked from any thread; `look` is for one thread at a time.

    Parameters
    ----------
    bundles
        Folders of bundles, or tags in the model store, that are offered for as long as the endpoint runs.
    folder
        A folder of bundles, each a folder in it, which may come and go.
    default
        Name, or ``NAME@VERSION``, of the reference that is meant where a request names none. Left out, it is the first
        of `bundles`, or whatever name all bundles of `folder` have.

    Examples
    --------
    >>> catalogue = Catalogue([Path("pbmc_1"), Path("pbmc_2")])  # doctest: +SKIP
    >>> catalogue.look()  # doctest: +SKIP
    >>> catalogue.find("pbmc").full_name, catalogue.find("pbmc@1").full_name  # doctest: +SKIP
    ('pbmc@2', 'pbmc@1')
    """

    def __init__(
        self, bundles: Sequence[str | Path] = (), folder: Path | None = None, default: str | None = None
    ) -> None:
        self.folder = folder
        self._bundles = tuple(bundles)
        self._default = default
        self._given: list[Offer] = []
        self._found: dict[Path, tuple[Fingerprint, Offer | ServingError]] = {}
        self._offers: tuple[Offer, ...] = ()

    @property
    def offers(self) -> tuple[Offer, ...]:
        """All references, by name, the newest version of each first."""
        return self._offers

    @property
    def refused(self) -> list[str]:
        """Names of folders in the folder of bundles that hold none that can be served."""
        return sorted(path.name for path, (_, found) in self._found.items() if isinstance(found, ServingError))

    def look(self, prepare: Callable[[Offer], None] | None = None) -> None:
        """See what there is now.

        Parameters
        ----------
        prepare
            Called for what is new before it can be asked for.

        Raises
        ------
        SettingsError
            When there is neither a bundle nor a folder, or the folder cannot be looked at: nothing changes then.
        BundleError
            When a bundle that was named cannot be served. One of the folder's only goes to the log.
        """
        if not self._bundles and self.folder is None:
            raise SettingsError(
                "Expected a bundle to serve, found none; name it (totalanvi serve BUNDLE), or a folder of several "
                "(--references FOLDER), or set TOTALANVI_REFERENCE or TOTALANVI_REFERENCES in the environment."
            )
        if not self._given:
            self._given = [Offer.of(Bundle.open(find_bundle(name))) for name in self._bundles]
        known = {offer.digest for offer in self._offers}
        if self.folder is not None:
            self._found = {path: self._judge(path, marks) for path, marks in bundle_folders(self.folder)}
        found = [offer for _, offer in self._found.values() if isinstance(offer, Offer)]
        offers = _without_doubles([*self._given, *found])
        new = [offer for offer in offers if offer.digest not in known]
        for offer in new:
            if prepare is not None:
                prepare(offer)
        gone = [offer for offer in self._offers if offer.digest not in {other.digest for other in offers}]
        self._offers = tuple(offers)
        for change, those in (("Offering", new), ("No longer offering", gone)):
            for offer in those:
                _log.info("%s %s (%s).", change, offer.full_name, offer.digest[:12])

    def find(self, name: str | None) -> Offer:
        """Return the reference that a request means: the newest version where it names none.

        Raises
        ------
        UnknownReferenceError
            When there is no such reference, or none was named and there is no default one.
        NotReadyError
            When there is none at all.
        """
        offers = self._offers
        if not offers:
            raise NotReadyError("The endpoint has no reference to map to yet; ask again in some seconds.")
        wanted = self.default_name if name is None else name
        for offer in offers:
            if wanted is not None and offer.answers_to(wanted):
                return offer
        names = quoted([offer.full_name for offer in offers], _MOST_NAMES)
        if wanted is None:
            raise UnknownReferenceError(f"reference: expected one of {names}, found none named; add ?reference=NAME.")
        raise UnknownReferenceError(f"reference: expected one of {names}, found {wanted!r}; name one of these.")

    @property
    def default_name(self) -> str | None:
        """What a request that names no reference asks for, None when it has to name one."""
        if self._default is not None:
            return self._default
        if self._given:
            return self._given[0].full_name
        names = {offer.info.name for offer in self._offers}
        return names.pop() if len(names) == 1 else None

    def _judge(self, path: Path, marks: Fingerprint) -> tuple[Fingerprint, Offer | ServingError]:
        """Verify a bundle of the folder, unless its files are those that were looked at before."""
        known = self._found.get(path)
        if known is not None and known[0] == marks:
            return known
        try:
            return marks, Offer.of(Bundle.open(path))
        except BundleError as error:
            _log.warning("%s is not offered: %s", path.name, error)
            return marks, error


def bundle_folders(folder: Path) -> list[tuple[Path, Fingerprint]]:
    """List the folders in a folder that have a manifest, and how their files look from outside.

    Raises
    ------
    SettingsError
        When the folder cannot be looked at.
    """
    listed: list[tuple[Path, Fingerprint]] = []
    try:
        # Where a link leads now: what is replaced under a link is another folder.
        paths = sorted(Path(entry.path).resolve() for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError as error:
        raise SettingsError(
            f"TOTALANVI_REFERENCES: expected a folder of bundles, found none at {folder} ({error.strerror}); make it, "
            "or name another."
        ) from error
    for path in dict.fromkeys(paths):
        try:
            files = [(entry.name, entry.stat()) for entry in os.scandir(path)]
        except OSError:  # no folder, or gone by now
            continue
        marks = tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in files))
        if any(name == MANIFEST_FILE for name, _, _ in marks):
            listed.append((path, marks))
    return listed


def _without_doubles(offers: Iterable[Offer]) -> list[Offer]:
    """Sort by name, the newest version first; of two bundles that call themselves the same, keep the younger one."""
    newest: dict[str, Offer] = {}
    for offer in offers:
        other = newest.setdefault(offer.full_name, offer)
        if offer.info.created > other.info.created:
            newest[offer.full_name] = offer
    by_version = sorted(newest.values(), key=lambda offer: _version_key(offer.info.version), reverse=True)
    return sorted(by_version, key=lambda offer: offer.info.name)


def _version_key(version: str) -> list[tuple[bool, int, str]]:
    """Return what versions are sorted by: numbers in them as numbers, and before them any text."""
    parts = re.findall(r"\d+|[^\d.]+", version)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
