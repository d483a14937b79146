"""What an operator decides: which references, how much they may take, and all limits, from a file and the environment.

Each setting is the variable ``TOTALANVI_`` and its name, or the same name in small letters in a TOML file that
``TOTALANVI_CONFIG`` names; the variable goes before the file. `docs/operate.md` has the table of them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from totalanvi.serving.endpoint.catalogue import Catalogue
from totalanvi.serving.errors import SettingsError
from totalanvi.serving.wire.limits import Limits, variable

if TYPE_CHECKING:
    from totalanvi.serving.endpoint.references import References

__all__ = ["CONFIG_VARIABLE", "Settings", "joined"]

CONFIG_VARIABLE = "TOTALANVI_CONFIG"


class Settings(BaseModel):
    """All that configures an endpoint.

    Examples
    --------
    >>> settings = Settings.read({"TOTALANVI_REFERENCE": "pbmc/, marrow/", "TOTALANVI_MAX_CELLS": "100"})
    >>> settings.reference, settings.limits.max_cells
    (('pbmc/', 'marrow/'), 100)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: tuple[str, ...] = ()
    """Bundles to serve: folders or model-store tags, separated by commas, or a list in the file."""
    references: Path | None = None
    """A folder of bundles to serve, which may come and go."""
    default_reference: str | None = None
    """Which is meant where a request names none: a name, or NAME@VERSION."""
    memory_bytes: int | None = Field(default=None, ge=1)
    """What references in memory may take together; left out, all that are asked for stay there."""
    poll_seconds: float = Field(default=2, gt=0)
    """How often the folder of bundles is looked at."""
    drain_seconds: float = Field(default=0, ge=0)
    """How long the endpoint goes on telling new requests to go elsewhere (503) after it was told to end (SIGTERM)."""
    limits: Limits = Limits()

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings, with defaults for those that are not set.

        Parameters
        ----------
        environment
            Such as `os.environ`.

        Raises
        ------
        SettingsError
            When the file cannot be read or has a setting that there is not, or a value cannot be used.
        """
        sources: dict[str, str] = {}
        values: dict[str, Any] = {}
        if file := environment.get(CONFIG_VARIABLE):
            values = _from_file(Path(file))
            sources = {name: f"{file}: {name}" for name in values}
        for name in setting_names():
            if variable(name) in environment:
                values[name] = environment[variable(name)]
                sources[name] = variable(name)
        if isinstance(names := values.get("reference"), str):
            values["reference"] = _names(names)
        for name in ("references", "default_reference", "memory_bytes"):
            # A variable that is set to nothing is not set.
            if values.get(name) == "":
                del values[name]
        limits = {name: values.pop(name) for name in Limits.model_fields if name in values}
        try:
            return cls(**values, limits=Limits.model_validate(limits))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            name = str(first["loc"][0])
            found = (values | limits)[name]
            raise SettingsError(
                f"{sources[name]}: expected a value in range, found {found!r} ({first['msg']}); "
                "set it to another value, or leave it out."
            ) from error

    def make_references(self) -> References:
        """Return the references, of which nothing was looked at yet."""
        # With the engine, which the process that supervises an endpoint starts without.
        from totalanvi.serving.endpoint.references import References

        catalogue = Catalogue(self.reference, self.references, self.default_reference)
        return References(catalogue, memory_bytes=self.memory_bytes, poll_seconds=self.poll_seconds)


def setting_names() -> list[str]:
    """Return the names of all settings, those of limits included."""
    return [*(name for name in Settings.model_fields if name != "limits"), *Limits.model_fields]


def joined(names: list[str]) -> str:
    """Return the value of ``TOTALANVI_REFERENCE`` for some bundles, whatever their names hold.

    Examples
    --------
    >>> _names(joined(["a, b", "c"]))
    ('a, b', 'c')
    """
    return "\n".join(names) + "\n"


def _names(text: str) -> tuple[str, ...]:
    separator = "\n" if "\n" in text else ","
    return tuple(name.strip() for name in text.split(separator) if name.strip())


def _from_file(file: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: expected a TOML file with settings, found none ({error.strerror}).") from error
    except ValueError as error:  # of TOML, and of text that is not UTF-8
        raise SettingsError(f"{file}: expected TOML, found something else ({error}); mend it.") from error
    known = setting_names()
    if unknown := [name for name in values if name not in known]:
        raise SettingsError(f"{file}: expected only {known}, found {unknown}; leave these out, or check the spelling.")
    if isinstance(folder := values.get("references"), str):
        values["references"] = file.parent / folder
    return values
