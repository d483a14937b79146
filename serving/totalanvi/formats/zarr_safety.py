"""Zarr folders from strangers: nothing outside the folder may be read through one, and nothing in it may be run.

A folder can lead elsewhere by symbolic links, and by names with ``..`` in its consolidated metadata. Its arrays name
the codecs that take them apart, and one of these unpickles, which runs whatever the author wrote. AnnData and MuData
need compression and strings, so codecs that do anything else are refused before data is read.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from totalanvi.formats.errors import FormatError

__all__ = ["require_enclosed"]

_METADATA_FILES = (".zarray", ".zmetadata", "zarr.json")
_CODEC_LISTS = ("codecs", "index_codecs", "filters")
_STRINGS = ("vlen-utf8", "vlen-bytes")
_CODECS = frozenset(
    (
        *_STRINGS,
        *("bytes", "transpose", "sharding_indexed", "shuffle", "delta", "fixedscaleoffset", "packbits", "bitround"),
        *("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd", "adler32", "crc32", "crc32c"),
    )
)


def require_enclosed(folder: Path) -> None:
    """Walk a Zarr folder, and refuse it when it leads elsewhere or names a codec that is not known to be harmless.

    Parameters
    ----------
    folder
        May itself be a link: whoever asks has named it.

    Raises
    ------
    FormatError
        Naming the first link, special file, name or codec.

    Examples
    --------
    >>> import tempfile
    >>> require_enclosed(Path(tempfile.mkdtemp()))
    """
    root = folder.resolve()
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.is_symlink():
                    if not path.resolve().is_relative_to(root):
                        raise _refusal(path, root, "a link that leads out of it", "Copy it with what it links to")
                elif entry.is_dir():
                    pending.append(path)
                elif not entry.is_file():
                    raise _refusal(path, root, "something that is neither a file nor a folder", "Write it again")
                elif entry.name in _METADATA_FILES:
                    _require_harmless(json.loads(path.read_bytes()), path, root)


def _require_harmless(metadata: Any, path: Path, root: Path) -> None:
    """Look through the metadata of arrays, wherever it is nested: consolidated, or in a codec's configuration."""
    if not isinstance(metadata, dict):
        return
    for key, value in metadata.items():
        if key == "metadata" and isinstance(value, dict) and any(".." in name.split("/") for name in value):
            raise _refusal(path, root, "an array with '..' in its name", "Write it again")
        if key != "attributes":
            _require_harmless(value, path, root)
        if key in _CODEC_LISTS and isinstance(value, list):
            for codec in value:
                _require_known(codec, path, root)
                _require_harmless(codec, path, root)
    if metadata.get("compressor"):
        _require_known(metadata["compressor"], path, root)
    if "O" in str(metadata.get("dtype", "")):
        names = [_name(codec) for codec in metadata.get("filters") or []]
        if not any(name in _STRINGS for name in names):
            raise _refusal(path, root, "an array of Python objects", "Keep numbers and strings only")


def _require_known(codec: Any, path: Path, root: Path) -> None:
    name = _name(codec)
    if name.removeprefix("numcodecs.") not in _CODECS:
        raise _refusal(path, root, f"the codec {name!r}", "Write it again with anndata's own codecs")


def _name(codec: Any) -> str:
    return str(codec.get("name", codec.get("id"))) if isinstance(codec, dict) else str(codec)


def _refusal(path: Path, root: Path, found: str, cure: str) -> FormatError:
    return FormatError(
        f"Expected a Zarr folder that holds all of its data itself, as numbers and strings; found {found}, at "
        f"{path.relative_to(root).as_posix()!r}. {cure}."
    )
