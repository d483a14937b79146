"""How data was registered, as tables in a terminal or notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.pretty import pprint
from rich.table import Table
from rich.text import Text

__all__ = ["view_registry", "view_setup_arguments"]


def view_setup_arguments(registry: Mapping[str, Any]) -> None:
    """Print the call that registered the data."""
    console = Console()
    console.print(f"Set up with {registry['model_name']}.{registry['setup_method_name']} and these arguments:")
    pprint(registry["setup_args"], console=console)


def view_registry(registry: Mapping[str, Any], sizes: Mapping[str, int], hide_state_registries: bool) -> None:
    """Print the call, sizes, places and categories."""
    view_setup_arguments(registry)
    console = Console()
    fields = registry["field_registries"]
    console.print(_table("Summary statistics", ("what", "number"), sizes.items()))
    places = ((key, _written(field["data_registry"])) for key, field in fields.items())
    console.print(_table("Data registry", ("key", "place"), places))
    if hide_state_registries:
        return
    for key, field in fields.items():
        state = field["state_registry"]
        categories = (
            {key: state["categorical_mapping"]} if "categorical_mapping" in state else state.get("mappings", {})
        )
        for title, names in categories.items():
            console.print(_table(f"Categories of {title}", ("code", "category"), enumerate(names)))


def _written(place: Mapping[str, Any]) -> str:
    """A place as code."""
    data = f"adata.mod[{place['mod_key']!r}]" if "mod_key" in place else "adata"
    key = "" if place["attr_key"] is None else f"[{place['attr_key']!r}]"
    return f"{data}.{place['attr_name']}{key}"


def _table(title: str, heads: tuple[str, str], rows: Iterable[tuple[object, object]]) -> Table:
    table = Table(*heads, title=title)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))  # not read as markup
    return table
