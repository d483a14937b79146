"""How to cite what was used: the software, and the models that it builds on."""

from __future__ import annotations

from dataclasses import dataclass

from totalanvi.pages.elements import Element, element

__all__ = ["PAPERS", "Paper", "citation", "software_sentence"]


@dataclass(frozen=True)
class Paper:
    """An article.

    Parameters
    ----------
    authors, title, journal, year
        As one writes them.
    doi
        Without the address that resolves it: a page names nothing on a network.
    """

    authors: str
    title: str
    journal: str
    year: int
    doi: str

    def __str__(self) -> str:
        return f"{self.authors}: {self.title}. {self.journal} ({self.year}), doi:{self.doi}"


PAPERS = (
    Paper(
        "Gayoso, Steier, Lopez, Regier, Nazor, Streets, Yosef",
        "Joint probabilistic modeling of single-cell multi-omic data with totalVI",
        "Nature Methods",
        2021,
        "10.1038/s41592-020-01050-x",
    ),
    Paper(
        "Xu, Lopez, Mehlman, Regier, Jordan, Yosef",
        "Probabilistic harmonization and annotation of single-cell transcriptomics data with deep generative models",
        "Molecular Systems Biology",
        2021,
        "10.15252/msb.20209620",
    ),
)
"""Those of `CITATION.cff`."""


def software_sentence(version: str) -> str:
    """Name the software."""
    return f"The totalanvi authors: totalanvi, version {version}, Apache-2.0"


def citation(version: str, others: tuple[str, ...] = ()) -> Element:
    """List what to cite.

    Parameters
    ----------
    version
        Of the software.
    others
        What else: the reference, for instance.
    """
    return element("ul", (element("li", one) for one in (*others, software_sentence(version), *map(str, PAPERS))))
