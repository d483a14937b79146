"""What the environment says of who may ask an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from totalanvi.serving.addresses import is_loopback
from totalanvi.serving.endpoint.access.keys import KeyFile, Keys, KeySource, fixed_keys, parse_keys
from totalanvi.serving.errors import SettingsError

__all__ = ["ACCESS_VARIABLES", "KEYS_FILE_VARIABLE", "NO_AUTH_VARIABLE", "AccessSettings"]

KEYS_FILE_VARIABLE = "TOTALANVI_KEYS_FILE"
NO_AUTH_VARIABLE = "TOTALANVI_NO_AUTH"
_KEYS_VARIABLE = "TOTALANVI_KEYS"
_OPEN_METRICS_VARIABLE = "TOTALANVI_OPEN_METRICS"
ACCESS_VARIABLES = frozenset({KEYS_FILE_VARIABLE, NO_AUTH_VARIABLE, _KEYS_VARIABLE, _OPEN_METRICS_VARIABLE})

_SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}


@dataclass(frozen=True)
class AccessSettings:
    """Who may ask.

    Parameters
    ----------
    keys
        Returns the keys, one of which a request has to carry; None: no keys are asked for.
    no_auth
        Whether requests from other machines are answered although no keys are asked for.
    open_metrics
        Whether ``/metrics`` is answered without a key.

    Examples
    --------
    >>> AccessSettings.from_environment({}).keys is None
    True
    """

    keys: KeySource | None = None
    no_auth: bool = False
    open_metrics: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> AccessSettings:
        """Read the settings.

        ``TOTALANVI_KEYS_FILE`` names a file of keys, ``TOTALANVI_KEYS`` holds its lines itself, ``TOTALANVI_NO_AUTH``
        and ``TOTALANVI_OPEN_METRICS`` are 1 or 0.

        Raises
        ------
        SettingsError
            When a value cannot be used, or they contradict each other.
        """
        file, lines = environment.get(KEYS_FILE_VARIABLE, ""), environment.get(_KEYS_VARIABLE, "")
        no_auth = _switch(environment, NO_AUTH_VARIABLE)
        if bool(file) + bool(lines) + no_auth > 1:
            raise SettingsError(
                f"Expected one of {KEYS_FILE_VARIABLE}, {_KEYS_VARIABLE} and {NO_AUTH_VARIABLE} (--keys, --no-auth), "
                "found several, which contradict each other; leave out all but one."
            )
        keys: KeySource | None = None
        if file:
            keys = KeyFile(Path(file))
        elif lines:
            keys = fixed_keys(Keys(parse_keys(lines, _KEYS_VARIABLE)))
        return cls(keys, no_auth, _switch(environment, _OPEN_METRICS_VARIABLE))

    def require_for(self, address: str) -> None:
        """Refuse to listen where other machines can ask, unless keys are asked for or that is wanted.

        Parameters
        ----------
        address
            Numeric address to listen on.

        Raises
        ------
        SettingsError
            When strangers could ask.
        """
        if self.keys is None and not self.no_auth and not is_loopback(address):
            raise SettingsError(
                f"Expected keys for an endpoint at {address}, which other machines can reach, found none; make one "
                "(totalanvi new-key NAME --keys FILE) and serve with --keys FILE, or let everybody in (--no-auth)."
            )


def _switch(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name, "")
    if value.lower() not in _SWITCH:
        raise SettingsError(f"{name}: expected 1 or 0, found {value!r}; set it to one of these, or leave it out.")
    return _SWITCH[value.lower()]
