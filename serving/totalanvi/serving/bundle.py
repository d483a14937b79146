"""The bundle: a folder that holds a reference ready to be served.

The reader owns the contract: `totalanvi.serving.manifest` defines the schema, this module opens a bundle and verifies
it; the export stage writes what is read here.

::

    bundle/
      manifest.json           names, calibration, provenance, digests              (see `Manifest`)
      encoder.onnx            counts → posterior of the latent                     (see `ENCODER`)
      classifier.onnx         latent → label logits                                (see `CLASSIFIER`)
      proteins.onnx           posterior, noise, batch → proteins                   (see `PROTEINS`)
      reference.safetensors   reference map, average profiles                      (see `ReferenceArrays`)
      calibration.safetensors what held-out cells came out as                      (see `CalibrationArrays`)
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from totalanvi.serving.calibration_arrays import CalibrationArrays
from totalanvi.serving.errors import BundleError
from totalanvi.serving.manifest import (
    CALIBRATION_FILE,
    CLASSIFIER,
    ENCODER,
    MANIFEST_FILE,
    PROTEINS,
    READOUT,
    READOUT_FILE,
    REFERENCE_FILE,
    SCHEMA_VERSION,
    FileRecord,
    Manifest,
)
from totalanvi.serving.readout_arrays import ReadoutArrays
from totalanvi.serving.reference_arrays import ReferenceArrays
from totalanvi.serving.version import software_version

__all__ = ["READOUT_FILES", "REQUIRED_FILES", "Bundle", "hash_files", "write_manifest"]

_OWN_DIGEST = "digest"
"""Field of the manifest's file that guards the other fields against accidents, as the records guard the files."""

REQUIRED_FILES = (ENCODER.file, CLASSIFIER.file, PROTEINS.file, REFERENCE_FILE, CALIBRATION_FILE)
"""What a manifest must list; it may list more."""

READOUT_FILES = (READOUT.file, READOUT_FILE)
"""What the manifest of a bundle with a readout lists too."""

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle.

    Parameters
    ----------
    path
        The folder.
    manifest
        What it says about itself.
    reference
        Its map and profile.
    calibration
        What held-out cells of the reference came out as.
    readout
        What its readout needs besides a graph; None in a bundle without one.
    digest
        SHA-256 of the manifest's bytes. The manifest holds the digest of every other file, so this one names the whole.

    Examples
    --------
    >>> bundle = Bundle.open("bundle/")  # doctest: +SKIP
    >>> bundle.manifest.labels  # doctest: +SKIP
    ['B cell', 'CD4 T', 'CD8 T', 'NK']
    """

    path: Path
    manifest: Manifest
    reference: ReferenceArrays
    calibration: CalibrationArrays
    readout: ReadoutArrays | None
    digest: str

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Open a bundle and verify all of it.

        Raises
        ------
        BundleError
            When the folder or a file is missing, a file's size or digest is not the manifest's, the manifest cannot be
            understood or is of another schema, or the arrays do not fit the manifest.
        """
        folder = Path(path)
        if not folder.is_dir():
            found = "a file" if folder.exists() else "nothing"
            raise BundleError(f"{folder}: expected the folder of a bundle, found {found}; name what `export` wrote.")
        content = _read_manifest(folder)
        manifest = _parse_manifest(folder, content)
        with_readout = any(name in manifest.files for name in READOUT_FILES)
        required = (*REQUIRED_FILES, *READOUT_FILES) if with_readout else REQUIRED_FILES
        missing = [name for name in required if name not in manifest.files]
        if missing:
            raise BundleError(f"{folder}: expected {MANIFEST_FILE} to list {missing}, found it does not; export again.")
        for name, record in manifest.files.items():
            _verify(folder, name, record, _hash(_inside(folder, name)))
        reference = ReferenceArrays.parse((folder / REFERENCE_FILE).read_bytes(), manifest, source=folder)
        calibration = CalibrationArrays.parse((folder / CALIBRATION_FILE).read_bytes(), manifest, source=folder)
        readout = None
        if READOUT.file in manifest.files:
            readout = ReadoutArrays.parse((folder / READOUT_FILE).read_bytes(), manifest, source=folder)
        _verify_manifest(folder, content)
        return cls(folder, manifest, reference, calibration, readout, hashlib.sha256(content).hexdigest())

    def read(self, name: str) -> bytes:
        """Return the bytes of a listed file, verified once more, so that what is used is what was signed for.

        Raises
        ------
        BundleError
            When the file is not listed, or has changed since the bundle was opened.
        """
        if name not in self.manifest.files:
            raise BundleError(f"{self.path}: expected one of {sorted(self.manifest.files)}, asked for {name!r}.")
        content = _inside(self.path, name).read_bytes()
        found = FileRecord(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        _verify(self.path, name, self.manifest.files[name], found)
        return content


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, FileRecord]:
    """Return size and digest of files of a bundle in the making, for `Manifest.files`.

    Raises
    ------
    BundleError
        When a file is missing.
    """
    return {name: _hash(_inside(folder, name)) for name in names}


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write the manifest, whole or not at all; the last act of making a bundle.

    Returns
    -------
    The file written.

    Raises
    ------
    BundleError
        When a file that the manifest lists is missing or differs from its record.
    """
    for name, record in manifest.files.items():
        _verify(folder, name, record, _hash(_inside(folder, name)))
    values = manifest.model_dump(mode="json")
    values[_OWN_DIGEST] = _digest_of(values)
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)
    target = folder / MANIFEST_FILE
    temporary = folder / f".{MANIFEST_FILE}.{os.getpid()}"
    try:
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _read_manifest(folder: Path) -> bytes:
    file = folder / MANIFEST_FILE
    if not file.is_file():
        raise BundleError(f"{folder}: expected a bundle with {MANIFEST_FILE}, found none; name what `export` wrote.")
    try:
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror}); check its permissions.") from error


def _parse_manifest(folder: Path, content: bytes) -> Manifest:
    file = folder / MANIFEST_FILE
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: expected JSON, found something else ({error}); export again.") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, bool) or not isinstance(version, int):
        raise BundleError(f"{file}: expected a bundle's manifest with a schema_version, found none; export again.")
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{file}: found schema {version}{_writer(values)}, but totalanvi {software_version()} reads "
            f"schemas up to {SCHEMA_VERSION}; upgrade totalanvi here, or export with the older one."
        )
    if version != SCHEMA_VERSION:
        raise BundleError(f"{file}: expected schema {SCHEMA_VERSION}, found {version}; export again.")
    values.pop(_OWN_DIGEST, None)
    try:
        return Manifest.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        place = f" at {where!r}" if where else ""
        raise BundleError(f"{file}: does not follow schema {version}{place}: {message}; export again.") from error


def _digest_of(values: dict[str, Any]) -> str:
    """SHA-256 of what a manifest says, its own digest aside; the layout of the file does not matter."""
    said = {name: value for name, value in values.items() if name != _OWN_DIGEST}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _verify_manifest(folder: Path, content: bytes) -> None:
    """Refuse a manifest that still makes sense but does not say what was written: labels in another order, say."""
    values = json.loads(content)
    if values.get(_OWN_DIGEST) != _digest_of(values):
        raise BundleError(
            f"{folder}: {MANIFEST_FILE!r} has been altered: expected it to say what its digest was made of, found "
            "something else; copy the bundle again, or export again."
        )


def _writer(values: dict[str, Any]) -> str:
    """Say which totalanvi wrote a manifest whose schema is not known, where it can be told."""
    provenance = values.get("provenance")
    versions = provenance.get("versions") if isinstance(provenance, dict) else None
    writer = versions.get("totalanvi") if isinstance(versions, dict) else None
    return f" (written by totalanvi {writer})" if isinstance(writer, str) else ""


def _inside(folder: Path, name: str) -> Path:
    """Return a file's path, refusing what is no regular file or lies outside the folder once links are followed."""
    file = folder / name
    try:
        real = file.resolve(strict=True)
        regular = stat.S_ISREG(real.stat().st_mode)
    except OSError as error:
        raise BundleError(f"{folder}: expected the file {name!r}, found it missing; copy or export again.") from error
    if not regular or folder.resolve() not in real.parents:
        raise BundleError(f"{folder}: expected {name!r} to be a file in this folder, found another kind or a link out.")
    return file


def _hash(file: Path) -> FileRecord:
    digest, size = hashlib.sha256(), 0
    try:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror}); check its permissions.") from error
    return FileRecord(sha256=digest.hexdigest(), bytes=size)


def _verify(folder: Path, name: str, expected: FileRecord, found: FileRecord) -> None:
    if found.bytes != expected.bytes:
        raise BundleError(
            f"{folder}: {name!r} has been altered: expected {expected.bytes} bytes, found {found.bytes}; "
            "copy the bundle again, or export again."
        )
    if found.sha256 != expected.sha256:
        raise BundleError(
            f"{folder}: {name!r} has been altered: expected SHA-256 {expected.sha256[:12]}…, found "
            f"{found.sha256[:12]}…; copy the bundle again, or export again."
        )
