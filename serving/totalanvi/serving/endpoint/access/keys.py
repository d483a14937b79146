"""Keys of an endpoint: a name and a digest each, read from a file again whenever that changes.

A line is a key: ``NAME:SHA256``, and behind it what the key may use, where that is limited::

    # who, sha256 of the key, limits
    imaging:ecd71870d1963316a97e3ac3408c9835ad8cf0f3c1bc703527c30265534f75ae
    class:1d7d2a5a2f3c6e1a0e6b8a9c0f2f5f0a6f3e6a8b1d9c0b7a5e4d3c2b1a0f9e8d requests_per_minute=60 cells_per_day=100000

The keys themselves are nowhere kept. `totalanvi new-key` makes them of 256 random bits, so that a plain digest, without
salt, tells nothing of them.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeAlias

from totalanvi.serving.errors import SettingsError

__all__ = ["Key", "KeyFile", "Keys", "fixed_keys", "new_secret", "parse_keys", "require_name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_PREFIX = "totalanvi_"
"""Of every key: by it, whoever searches repositories and logs for secrets finds one."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """A key, by what is known of it.

    Parameters
    ----------
    name
        Whose it is; stands in logs.
    digest
        SHA-256 of the key, 32 bytes.
    requests_per_minute
        None for any number.
    cells_per_day
        None for any number; days are those of UTC.
    """

    name: str
    digest: bytes
    requests_per_minute: int | None = None
    cells_per_day: int | None = None

    def line(self) -> str:
        """Return the key as a line of a file of keys."""
        limits = ((name, getattr(self, name)) for name in _LIMITS)
        return " ".join((f"{self.name}:{self.digest.hex()}", *(f"{n}={value}" for n, value in limits if value)))


_LIMITS = tuple(field.name for field in fields(Key))[2:]


class Keys:
    """Several keys, among which a secret is looked for.

    Examples
    --------
    >>> keys = Keys([Key("lab", hashlib.sha256(b"a secret").digest())])
    >>> keys.find(b"a secret").name, keys.find(b"another")
    ('lab', None)
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, secret: bytes) -> Key | None:
        """Return the key that a secret is; it takes as long whether it is one or none, and whichever it is."""
        digest = hashlib.sha256(secret).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


KeySource: TypeAlias = Callable[[], Keys]
"""Returns the keys of this moment."""


def fixed_keys(keys: Keys) -> KeySource:
    """Return a source of keys that never change."""
    return lambda: keys


class KeyFile:
    """Keys in a file, which is read again when it has changed: keys come and go without a restart.

    A file that can no longer be read, or holds a line that is none, leaves the keys as they were; the log says so.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    SettingsError
        When it cannot be read at first, or holds no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._state()
        self._keys = self._read()
        if not len(self._keys):
            raise SettingsError(
                f"{path}: expected a key in each line (NAME:SHA256), found none; make one: totalanvi new-key NAME "
                f"--keys {path}"
            )

    def __call__(self) -> Keys:
        """Return the keys that the file holds now."""
        state = self._state()
        if state != self._seen:
            self._seen = state
            try:
                self._keys = self._read()
            except SettingsError as error:
                _log.error("The keys stay as they were: %s", error)
            else:
                _log.info("Read %d keys again from %s.", len(self._keys), self._path)
        return self._keys

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> Keys:
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise SettingsError(
                f"{self._path}: expected a file of keys, found that it cannot be read ({reason}); check the path and "
                "its permissions."
            ) from error
        return Keys(parse_keys(text, str(self._path)))


def parse_keys(text: str, where: str) -> list[Key]:
    """Read keys, one a line; empty lines, and what follows a ``#``, are skipped.

    Parameters
    ----------
    text
        The lines.
    where
        Names them in messages.

    Raises
    ------
    SettingsError
        When a line is none, or a name stands there twice. The message does not repeat the line: whoever puts the key
        itself there must not find it in a log.
    """
    keys: dict[str, Key] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        name, _, digest = words[0].partition(":")
        limits = dict(word.partition("=")[::2] for word in words[1:])
        usable = all(limit in _LIMITS and _is_count(value) for limit, value in limits.items())
        if not (_NAME.fullmatch(name) and _DIGEST.fullmatch(digest) and usable and len(limits) == len(words) - 1):
            raise SettingsError(
                f"{where}, line {number}: expected NAME:SHA256, then {' and '.join(f'{name}=N' for name in _LIMITS)} "
                "where wanted; found something else. `totalanvi new-key` writes such lines."
            )
        if name in keys:
            raise SettingsError(f"{where}, line {number}: expected each name once, found {name!r} again; rename one.")
        keys[name] = Key(name, bytes.fromhex(digest), **{limit: int(value) for limit, value in limits.items()})
    return list(keys.values())


def new_secret() -> str:
    """Return a new key: 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def require_name(name: str) -> None:
    """Refuse what cannot be the name of a key.

    Raises
    ------
    SettingsError
        When it has other characters than letters, digits, ``.``, ``_`` and ``-``, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r}: expected the name of a key, of at most 64 letters, digits, '.', '_' and '-', found something "
            "else; choose another."
        )


def _is_count(value: str) -> bool:
    return re.fullmatch(r"[1-9][0-9]{0,14}", value) is not None
