"""The bundle: a folder that holds a reference ready to be served.

The reader owns the contract: `totalanvi.serving.bundles.manifest` defines the schema, `manifest_file` reads and writes
what follows it, and this module opens a bundle and verifies it; the export stage writes what is read here.

::

    bundle/
      manifest.json           names, calibration, provenance, digests              (see `Manifest`)
      encoder.onnx            counts → posterior of the latent                     (see `ENCODER`)
      classifier.onnx         latent → label logits                                (see `CLASSIFIER`)
      proteins.onnx           posterior, noise, batch → proteins                   (see `PROTEINS`)
      reference.safetensors   reference map, average profiles                      (see `ReferenceArrays`)
      calibration.safetensors what held-out cells came out as                      (see `CalibrationArrays`)
      readout.onnx, readout.safetensors
                              labels and proteins straight from counts, if any     (see `READOUT`, `ReadoutArrays`)
      encoder_first.safetensors, encoder_rest.onnx; readout_first.safetensors, readout_rest.onnx
                              these graphs once more, cut behind their first layer,
                              for speed on sparse rows                     (see `totalanvi.serving.bundles.first_layer`)
      readout_labels.onnx     the latter without proteins                          (see `READOUT_LABELS`)
      encoder_panel.onnx, readout_panel.onnx
                              for labels of cells that have one panel              (see `ENCODER_PANEL`)
      encoder_rna.onnx, readout_rna.onnx
                              and of cells without proteins                        (see `ENCODER_RNA`)
      rows.onnx               stored counts → whole rows, on a device              (see `ROWS`)
      nearest.onnx            latent → nearest landmarks, on a device              (see `NEAREST`)
      density.onnx            components → nearest label, on a device              (see `DENSITY`)
      average.onnx, readout_counts.onnx, readout_imputed.onnx, bounds.onnx
                              decoded proteins → imputed ones, on a device    (see `ADD_WEIGHTED` and those behind it)
      README.md, report.html  what it is and how good, for people          (see `CARD_FILE`)
      manifest.sig            who vouches for it, if anybody               (see `totalanvi.serving.bundles.signature`)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from totalanvi.serving.bundles.array_file import ArrayFile
from totalanvi.serving.bundles.calibration_arrays import CalibrationArrays
from totalanvi.serving.bundles.files import hash_file, inside, verify
from totalanvi.serving.bundles.first_layer import EncoderFirst, FirstLayers, ReadoutFirst
from totalanvi.serving.bundles.graphs import CLASSIFIER, ENCODER, ENCODER_REST, PROTEINS, READOUT, READOUT_REST
from totalanvi.serving.bundles.manifest import (
    CALIBRATION_FILE,
    ENCODER_FIRST_FILE,
    MANIFEST_FILE,
    READOUT_FILE,
    READOUT_FIRST_FILE,
    REFERENCE_FILE,
    FileRecord,
    Manifest,
)
from totalanvi.serving.bundles.manifest_file import parse_manifest, read_manifest, verify_manifest
from totalanvi.serving.bundles.readout_arrays import ReadoutArrays
from totalanvi.serving.bundles.reference_arrays import ReferenceArrays
from totalanvi.serving.bundles.signature import SIGNATURE_FILE, require_signature
from totalanvi.serving.errors import BundleError

__all__ = ["Bundle", "bundle_files"]

Arrays = TypeVar("Arrays", bound=ArrayFile)

_FILES = (
    *(ENCODER.file, CLASSIFIER.file, PROTEINS.file, REFERENCE_FILE, CALIBRATION_FILE),
    *(ENCODER_FIRST_FILE, ENCODER_REST.file),
)
_READOUT_FILES = (READOUT.file, READOUT_FILE, READOUT_FIRST_FILE, READOUT_REST.file)


def bundle_files(readout: bool) -> tuple[str, ...]:
    """Name the files that a manifest must list, with a readout or without; it may list more."""
    return (*_FILES, *_READOUT_FILES) if readout else _FILES


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
    first_layers
        What is computed from sparse rows.
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
    first_layers: FirstLayers
    digest: str

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Open a bundle and verify all of it.

        Raises
        ------
        BundleError
            When the folder or a file is missing, a file's size or digest is not the manifest's, the manifest cannot be
            understood or is of another schema, the arrays do not fit the manifest, or nobody vouches for it
            who should.
        """
        folder = Path(path)
        content = read_manifest(folder)
        require_signature(folder, content)
        manifest = parse_manifest(folder, content)
        with_readout = any(name in manifest.files for name in _READOUT_FILES)
        missing = [name for name in bundle_files(with_readout) if name not in manifest.files]
        if missing:
            raise BundleError(f"{folder}: expected {MANIFEST_FILE} to list {missing}, found it does not; export again.")
        for name, record in manifest.files.items():
            verify(folder, name, record, hash_file(inside(folder, name)))
        reference = _arrays(ReferenceArrays, folder, manifest)
        calibration = _arrays(CalibrationArrays, folder, manifest)
        readout = _arrays(ReadoutArrays, folder, manifest) if with_readout else None
        first_layers = FirstLayers(
            _arrays(EncoderFirst, folder, manifest), _arrays(ReadoutFirst, folder, manifest) if with_readout else None
        )
        verify_manifest(folder, content)
        digest = hashlib.sha256(content).hexdigest()
        return cls(folder, manifest, reference, calibration, readout, first_layers, digest)

    @property
    def file_names(self) -> list[str]:
        """What a copy needs: what the manifest lists, the manifest, and a signature where there is one."""
        signature = [SIGNATURE_FILE] if (self.path / SIGNATURE_FILE).exists() else []
        return sorted((*self.manifest.files, MANIFEST_FILE, *signature))

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


def _arrays(kind: type[Arrays], folder: Path, manifest: Manifest) -> Arrays:
    return kind.parse((folder / kind.FILE).read_bytes(), manifest, source=folder)
