"""The bundle: a folder that holds a reference ready to be served.

The reader owns the contract: `totalanvi.serving.manifest` defines the schema, `totalanvi.serving.manifest_file` reads
and writes what follows it, and this module opens a bundle and verifies it; the export stage writes what is read here.

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
from dataclasses import dataclass
from pathlib import Path

from totalanvi.serving.bundle_files import hash_file, inside, verify
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
    FileRecord,
    Manifest,
)
from totalanvi.serving.manifest_file import parse_manifest, read_manifest, verify_manifest
from totalanvi.serving.readout_arrays import ReadoutArrays
from totalanvi.serving.reference_arrays import ReferenceArrays

__all__ = ["READOUT_FILES", "REQUIRED_FILES", "Bundle"]

REQUIRED_FILES = (ENCODER.file, CLASSIFIER.file, PROTEINS.file, REFERENCE_FILE, CALIBRATION_FILE)
"""What a manifest must list; it may list more."""

READOUT_FILES = (READOUT.file, READOUT_FILE)
"""What the manifest of a bundle with a readout lists too."""


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
        content = read_manifest(folder)
        manifest = parse_manifest(folder, content)
        with_readout = any(name in manifest.files for name in READOUT_FILES)
        required = (*REQUIRED_FILES, *READOUT_FILES) if with_readout else REQUIRED_FILES
        missing = [name for name in required if name not in manifest.files]
        if missing:
            raise BundleError(f"{folder}: expected {MANIFEST_FILE} to list {missing}, found it does not; export again.")
        for name, record in manifest.files.items():
            verify(folder, name, record, hash_file(inside(folder, name)))
        reference = ReferenceArrays.parse((folder / REFERENCE_FILE).read_bytes(), manifest, source=folder)
        calibration = CalibrationArrays.parse((folder / CALIBRATION_FILE).read_bytes(), manifest, source=folder)
        readout = None
        if READOUT.file in manifest.files:
            readout = ReadoutArrays.parse((folder / READOUT_FILE).read_bytes(), manifest, source=folder)
        verify_manifest(folder, content)
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
        content = inside(self.path, name).read_bytes()
        found = FileRecord(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        verify(self.path, name, self.manifest.files[name], found)
        return content
