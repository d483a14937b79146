"""A bundle in BentoML's model store, where services find it by name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from totalanvi.export.errors import TargetError
from totalanvi.serving.bundles.bundle import Bundle

__all__ = ["store_bundle"]


def store_bundle(bundle: Bundle, overwrite: bool = False) -> str:
    """Copy a bundle into the model store.

    Parameters
    ----------
    bundle
        A verified bundle; its manifest gives name and version.
    overwrite
        Replace an entry of the same name and version.

    Returns
    -------
    The tag, ``name:version``.

    Raises
    ------
    TargetError
        When the store has this tag already, or cannot take the bundle.
    """
    import bentoml
    from bentoml.exceptions import NotFound

    manifest = bundle.manifest
    tag = f"{manifest.name}:{manifest.version}"
    try:
        entry: Path | None = Path(bentoml.models.get(tag).path)
    except NotFound:
        entry = None
    if entry is not None and not overwrite:
        raise TargetError(
            f"{tag}: expected a tag that the model store does not have, found it there (the bundle is at "
            f"{bundle.path}); choose another name, or allow to replace it (--overwrite)."
        )
    labels = {"totalanvi-schema": str(manifest.schema_version)}
    try:
        with _set_aside(entry), bentoml.models.create(tag, module="totalanvi.serving", labels=labels) as model:
            for name in bundle.file_names:
                shutil.copyfile(bundle.path / name, Path(model.path_of(name)))
    except OSError as error:
        # Of a whole folder that could not be copied, Python lists what became of each file.
        reason = error.args[0][0][-1] if isinstance(error, shutil.Error) else error
        raise TargetError(
            f"{tag}: expected to copy the bundle into the model store, found that this fails ({reason}); the bundle is "
            f"at {bundle.path}: make room, and export again."
        ) from error
    return tag


@contextmanager
def _set_aside(entry: Path | None) -> Iterator[None]:
    """Take an entry of the store out of the way, and put it back when what should replace it fails."""
    if entry is None:
        yield
        return
    aside = entry.rename(entry.with_name(f".{entry.name}.replaced"))
    try:
        yield
    except BaseException:
        shutil.rmtree(entry, ignore_errors=True)
        aside.rename(entry)
        raise
    shutil.rmtree(aside)
