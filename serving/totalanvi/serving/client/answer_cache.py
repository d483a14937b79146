"""Answers that an endpoint has given, kept on disk: a query that was interrupted goes on where it was.

What a chunk is mapped to depends on its bytes and the reference alone, so an answer is named by the digest of both, and
is as good in another run as in this one. An answer that is read again is checked like one that has just arrived.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from totalanvi.serving.errors import OutputError

__all__ = ["AnswerCache"]

_SUFFIX = ".answer"


class AnswerCache:
    """A folder of answers; may be used from several threads, and by several runs at a time.

    Parameters
    ----------
    folder
        Made when it is not there. It holds what cells were mapped to.

    Raises
    ------
    OutputError
        When it cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"Expected a folder for answers at {str(folder)!r}, found that none can be made there "
                f"({error.strerror}); name another."
            ) from error
        self._names: set[str] = set()

    def name(self, reference: str, body: bytes) -> str:
        """Return the name of the answer to a request.

        Parameters
        ----------
        reference
            Digest of the reference.
        body
            The request's, not compressed.
        """
        return hashlib.sha256(reference.encode() + b"\n" + body).hexdigest()

    def find(self, name: str) -> bytes | None:
        """Return an answer, or None when there is none yet."""
        self._names.add(name)
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def keep(self, name: str, answer: bytes) -> None:
        """Keep an answer, whole or not at all.

        Raises
        ------
        OutputError
            When there is no room.
        """
        try:
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as made:
                try:
                    made.write(answer)
                    made.close()
                    Path(made.name).replace(self._path(name))
                except BaseException:
                    Path(made.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise OutputError(
                f"Expected to keep answers in {str(self._folder)!r}, found that this fails ({error.strerror}); make "
                "room, or name another folder."
            ) from error

    def drop(self, name: str) -> None:
        """Remove an answer that is of no use."""
        self._path(name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the answers that were asked for here, once their results are elsewhere, and the folder if empty."""
        for name in self._names:
            self.drop(name)
        self._names.clear()
        try:
            self._folder.rmdir()
        except OSError:
            return  # somebody else's answers are there

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"
