"""The manifest of a bundle as a file: read, understood, guarded by a digest of its own, and written."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from totalanvi.serving.bundles.files import hash_file, inside, verify
from totalanvi.serving.bundles.manifest import MANIFEST_FILE, SCHEMA_VERSION, Manifest
from totalanvi.serving.bundles.mistaken import no_bundle
from totalanvi.serving.errors import BundleError
from totalanvi.serving.version import software_version

__all__ = ["parse_manifest", "read_manifest", "verify_manifest", "write_manifest"]

_OWN_DIGEST = "digest"
"""Field of the manifest's file that guards the other fields against accidents, as the records guard the files."""

_LEFT_OUT = ("precision",)
"""Fields that are not written where they say nothing: code from before them, which refuses fields that it does not
know, serves such a bundle."""


def read_manifest(folder: Path) -> bytes:
    """Return the bytes of a bundle's manifest.

    Raises
    ------
    BundleError
        When there is none, or it cannot be read.
    """
    file = folder / MANIFEST_FILE
    if not file.is_file():
        raise no_bundle(folder)
    try:
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror}); check its permissions.") from error


def parse_manifest(folder: Path, content: bytes) -> Manifest:
    """Understand what a manifest's file says; `verify_manifest` tells whether it still says what was written.

    Raises
    ------
    BundleError
        When it is no manifest, or follows another schema.
    """
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


def verify_manifest(folder: Path, content: bytes) -> None:
    """Refuse a manifest that still makes sense but does not say what was written: labels in another order, say.

    Raises
    ------
    BundleError
        When it was altered.
    """
    values = json.loads(content)
    if values.get(_OWN_DIGEST) != _digest_of(values):
        raise BundleError(
            f"{folder}: {MANIFEST_FILE!r} has been altered: expected it to say what its digest was made of, found "
            "something else; copy the bundle again, or export again."
        )


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
        verify(folder, name, record, hash_file(inside(folder, name)))
    values = manifest.model_dump(mode="json")
    for name in _LEFT_OUT:
        if values[name] is None:
            del values[name]
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


def _digest_of(values: dict[str, Any]) -> str:
    """SHA-256 of what a manifest says, its own digest aside; the layout of the file does not matter."""
    said = {name: value for name, value in values.items() if name != _OWN_DIGEST}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _writer(values: dict[str, Any]) -> str:
    """Say which totalanvi wrote a manifest whose schema is not known, where it can be told."""
    provenance = values.get("provenance")
    versions = provenance.get("versions") if isinstance(provenance, dict) else None
    writer = versions.get("totalanvi") if isinstance(versions, dict) else None
    return f" (written by totalanvi {writer})" if isinstance(writer, str) else ""
