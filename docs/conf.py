"""How the documentation is built: `make docs`. Every warning is an error, and no network is asked for anything."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from command_help import write_command_help  # noqa: E402
from endpoint_tables import write_metrics_table, write_settings_table  # noqa: E402
from pydantic import BaseModel  # noqa: E402

# Threads that wait should sleep: spinning, they starve each other where cores are shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

project = "totalanvi"
author = "The totalanvi authors"
version = release = metadata.version("totalanvi")
project_copyright = author

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    # Not napoleon: it writes the text of parameters that are documented together once for each of them.
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
    # Equations are drawn by a copy of MathJax: readers need no network either.
    "sphinx-mathjax-offline",
]
exclude_patterns = ["_build", "generated"]
templates_path = ["_templates"]

html_theme = "sphinx_book_theme"
html_title = f"totalanvi {release}"
html_theme_options = {
    "navbar_persistent": [],
    "show_navbar_depth": 1,
    "use_download_button": False,
    "use_fullscreen_button": False,
}

# Docstrings set names in single backticks; those that are documented here become links.
default_role = "py:obj"
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
numpydoc_show_class_members = False

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "unsrt"
bibtex_reference_style = "author_year"

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Running the notebooks takes longer than all the rest: DOCS_NOTEBOOKS=off leaves that out while texts are written.
nb_execution_mode = os.environ.get("DOCS_NOTEBOOKS", "cache")
nb_execution_timeout = 1800
nb_execution_raise_on_error = True
nb_merge_streams = True


def setup(app: Sphinx) -> None:
    """Write what is made from the code before anything is read."""
    app.connect("builder-inited", lambda _: write_generated(HERE / "generated"))
    app.connect("include-read", link_to_pages)
    app.connect("autodoc-process-signature", leave_out_fields)


def write_generated(folder: Path) -> None:
    """Write what pages include of the code: help, and metrics."""
    folder.mkdir(exist_ok=True)
    write_command_help(folder / "commands.md")
    write_settings_table(folder / "limits.md")
    write_metrics_table(folder / "metrics.md")


def link_to_pages(app: Sphinx, path: Path, docname: str, content: list[str]) -> None:
    """Let links between files of the repository lead from page to page."""
    pages = {
        "../BENCHMARKS.md": "benchmarks.md",
        "benchmarks/README.md": "benchmarks-method.md",
        "RELIABILITY.md": "reliability.md",
    }
    for file, page in pages.items():
        content[0] = content[0].replace(f"]({file}", f"]({page}")


def leave_out_fields(
    app: Sphinx, what: str, name: str, described: object, options: object, signature: str, returned: str
) -> tuple[str, str] | None:
    """Give a schema no signature: its fields are listed one by one below."""
    if isinstance(described, type) and issubclass(described, BaseModel):
        return "", ""
    return None
