"""Arrays of a bundle, one dataclass a file: read from safetensors, and held against the manifest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from totalanvi.serving.bundles.manifest import Manifest
from totalanvi.serving.errors import BundleError

__all__ = ["ArrayFile"]

_Arrays = dict[str, np.ndarray[Any, Any]]


class ArrayFile(ABC):
    """A dataclass of arrays that is stored in a file of the bundle, under the names of its fields."""

    FILE: ClassVar[str]

    @abstractmethod
    def problem(self, manifest: Manifest) -> str | None:
        """Return what does not fit the manifest, None when all does."""

    @classmethod
    def parse(cls, content: bytes, manifest: Manifest, *, source: Path) -> Self:
        """Read the arrays from safetensors bytes and hold them against the manifest.

        Raises
        ------
        BundleError
            When the bytes are not safetensors, an array is missing or unknown, or one does not fit the manifest.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            arrays = load(content)
        except (SafetensorError, KeyError, ValueError) as error:
            raise BundleError(f"{source}: expected safetensors in {cls.FILE}, found {error}; export again.") from error
        names = cls._names()
        if arrays.keys() != set(names):
            raise BundleError(
                f"{source}: expected {cls.FILE} to hold {sorted(names)}, found {sorted(arrays)}; export again."
            )
        found = cls(**cls._from_stored(arrays))
        if problem := found.problem(manifest):
            raise BundleError(f"{source}: {cls.FILE}: {problem}; export again.")
        return found

    def save(self, folder: Path, manifest: Manifest) -> None:
        """Write the arrays into a bundle's folder, for the export stage.

        Raises
        ------
        BundleError
            When an array does not fit the manifest.
        """
        from safetensors.numpy import save

        file = folder / self.FILE
        if problem := self.problem(manifest):
            raise BundleError(f"{file}: {problem}.")
        # Not save_file, which makes a file that nobody but its owner can read, whatever the umask says.
        arrays = self._stored({name: getattr(self, name) for name in self._names()})
        file.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))

    def shape_problem(self, shapes: dict[str, tuple[int, ...]], integers: tuple[str, ...] = ()) -> str | None:
        """Return the first array whose type or shape is not as expected: float32, but for int32 where named."""
        for name, shape in shapes.items():
            array: np.ndarray[Any, Any] = getattr(self, name)
            dtype = np.dtype(np.int32 if name in integers else np.float32)
            if array.dtype != dtype or array.shape != shape:
                return f"{name}: expected {dtype} of shape {shape}, found {array.dtype} of shape {array.shape}"
        return None

    def finite_problem(self, names: tuple[str, ...]) -> str | None:
        """Return the first of these arrays that holds a value that is not finite."""
        for name in names:
            if not np.isfinite(getattr(self, name)).all():
                return f"{name}: expected finite values, found others"
        return None

    @classmethod
    def _from_stored(cls, arrays: _Arrays) -> _Arrays:
        """Return arrays as they are used, from those that the file holds."""
        return arrays

    @classmethod
    def _stored(cls, arrays: _Arrays) -> _Arrays:
        """Return the arrays that the file is to hold."""
        return arrays

    @classmethod
    def _names(cls) -> list[str]:
        return [field.name for field in fields(cls)]  # type: ignore[arg-type]
