"""Private folders for what strangers upload: one a file, removed with it, and after a crash at the next start."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from totalanvi.serving.errors import SettingsError
from totalanvi.serving.locks import taken_lock

__all__ = ["UPLOADS_VARIABLE", "Rooms"]

UPLOADS_VARIABLE = "TOTALANVI_UPLOADS"
"""Names the folder in which uploads are kept while they are mapped; the system's for temporary files unless set."""

_LOCK = "lock"


class Rooms:
    """Folders of one endpoint, inside one of its own, which it holds a lock on for as long as its process lives.

    Whatever ends the process lets go of the lock: the next endpoint that starts removes all folders that nobody holds.

    Parameters
    ----------
    parent
        Folder of all endpoints of this user on this machine; made when it is not there.

    Raises
    ------
    SettingsError
        When it is somebody else's, others may write there, or it cannot be made.
    """

    def __init__(self, parent: Path) -> None:
        try:
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = parent.lstat()
        except OSError as error:
            raise SettingsError(
                f"Expected to keep uploaded files in {str(parent)!r}, found that impossible ({error.strerror}); name "
                f"another folder ({UPLOADS_VARIABLE})."
            ) from error
        mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
        if not stat.S_ISDIR(found.st_mode) or not mine or stat.S_IMODE(found.st_mode) & 0o077:
            raise SettingsError(
                f"Expected {str(parent)!r} to be a folder that only this user can look into, found another; remove it, "
                f"or name another folder ({UPLOADS_VARIABLE})."
            )
        self._sweep(parent)
        self.path = Path(tempfile.mkdtemp(prefix="endpoint-", dir=parent))
        self._lock = taken_lock(self.path / _LOCK)

    @contextmanager
    def room(self) -> Iterator[Path]:
        """Give a new folder that only this user can look into, until the ``with`` statement ends."""
        folder = Path(tempfile.mkdtemp(prefix="upload-", dir=self.path))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _sweep(self, parent: Path) -> None:
        """Remove what endpoints have left whose process has ended."""
        for folder in parent.glob("endpoint-*"):
            with suppress(OSError):
                lock = taken_lock(folder / _LOCK)
                if lock is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)
