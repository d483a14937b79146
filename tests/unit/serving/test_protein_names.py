"""Names of antibodies: what is taken off them, what is not, and what is left open."""

from __future__ import annotations

import pytest

from totalanvi.serving.alignment.controls import control
from totalanvi.serving.alignment.protein_names import ProteinNames, spelling, undecorated, without_suffix

TOTALSEQ = ("CD3", "CD4", "CD8a", "CD14", "CD41", "CD45RA", "CD45RO", "CD56", "PD-1", "TIGIT", "HLA-DR", "Siglec-10")
PANEL = ProteinNames([f"{name}_TotalSeqB" for name in TOTALSEQ])


def resolved(name: str) -> str | None:
    found = PANEL.find(name)
    return TOTALSEQ[found.places[0]] if found is not None and len(found.places) == 1 else None


@pytest.mark.parametrize(
    "name",
    [
        *(
            "CD3",
            "cd3",
            "CD3_TotalSeqB",
            "CD3_TotalSeqC",
            "CD3-TotalSeq-A",
            "CD3 TotalSeq™-C",
            "CD3_TotalA",
            "CD3TotalSeqB",
        ),
        *("anti-human CD3", "anti_human_CD3", "Anti-Human CD3", "anti-CD3", "anti-mouse/human CD3"),
        *(
            "Hu.CD3",
            "HuMs.CD3",
            "human CD3",
            "ADT_CD3",
            "adt-cd3",
            "ADT:CD3",
            "prot_CD3",
            "protein.CD3",
            "CD3_ADT",
            "CD3-prot",
        ),
        *("CD3-1", "CD3.1", "CD3_2", "CD3_UCHT1", "CD3-OKT3", "CD3.UCHT1", "CD3 (UCHT1)", "anti-human CD3 [UCHT1]"),
        *("CD3-CTCATTGTAACTCCT", "CD3:UCHT1|CD3E|AHS0231|pAbO", "A0034-CD3", "CD3_A0034", "CD3_TotalSeqC_UCHT1"),
    ],
)
def test_usual_decorations_come_off(name: str) -> None:
    assert resolved(name) == "CD3"


@pytest.mark.parametrize(
    ("name", "protein"),
    [
        *(("CD45RA.HI100", "CD45RA"), ("CD45-RA", "CD45RA"), ("cd45ro", "CD45RO"), ("CD41", "CD41"), ("CD4-1", "CD4")),
        *(("CD4_RPA-T4", "CD4"), ("CD279 (PD-1)", "PD-1"), ("PD1", "PD-1"), ("pd.1", "PD-1"), ("HLA.DR", "HLA-DR")),
        *(("HLA-DR_L243", "HLA-DR"), ("TIGIT_A15153G", "TIGIT"), ("CD8a-SK1", "CD8a"), ("Siglec.10", "Siglec-10")),
    ],
)
def test_what_tells_proteins_apart_stays(name: str, protein: str) -> None:
    assert resolved(name) == protein


@pytest.mark.parametrize(
    "name",
    [
        *("CD45", "CD8", "CD8b", "CD1", "HLA", "HLA-DQ", "Siglec-8", "TCR-Vd2", "CD3-CD19", "CD11a.CD18", "CD4CD8"),
        *("", "---", "1", "TotalSeqB", "anti-human", "ADT"),
    ],
)
def test_other_proteins_stay_unknown(name: str) -> None:
    assert PANEL.find(name) is None


@pytest.mark.parametrize(
    ("names", "name", "candidates"),
    [
        (("CD4.1", "CD4.2"), "CD4", {0, 1}),
        (("CD4_TotalSeqA", "CD4_TotalSeqB"), "CD4", {0, 1}),
        (("Hu.CD4", "Ms.CD4"), "anti-human CD4", {0, 1}),
        (("CD4 (RPA-T4)", "CD4 (SK3)", "CD8"), "CD4", {0, 1}),
        (("CD279", "PD-1"), "CD279 (PD-1)", {0, 1}),
        (("HLA-DR", "HLA.DR"), "hladr", {0, 1}),
    ],
)
def test_what_may_be_two_is_left_open(names: tuple[str, ...], name: str, candidates: set[int]) -> None:
    found = ProteinNames(names).find(name)
    assert found is not None
    assert set(found.places) == candidates
    for place, own in enumerate(names):
        assert ProteinNames(names).find(own).places == (place,)  # type: ignore[union-attr]


def test_an_ending_is_taken_off_one_side_only() -> None:
    panel = ProteinNames(("Siglec-10", "CD3_UCHT1"))
    assert panel.find("Siglec-8") is None
    assert panel.find("Siglec") is None
    assert panel.find("CD3").places == (1,)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "IgG1",
            "IgG2a_control_TotalSeqB",
            "Mouse IgG1",
            "rat_IgG2b",
            "Isotype_RTK4530",
            "mouse IgG2a, κ isotype Ctrl",
        ),
        *("ADT_IgG1", "anti-human IgG1_TotalSeqC", "IgG-control", "MOPC-21"),
    ],
)
def test_isotype_controls_are_known(name: str) -> None:
    assert control(undecorated(name)) == "isotype control"


@pytest.mark.parametrize(
    "name",
    ["HTO1", "HTO_A", "hto-3", "Hashtag1", "anti-human Hashtag 1", "Hashtag_2_TotalSeqB", "CMO301", "SampleTag01_hs"],
)
def test_hashtags_are_known(name: str) -> None:
    assert control(undecorated(name)) == "hashtag"


@pytest.mark.parametrize("name", ["IgD", "IgM", "IgG Fc", "CD3", "Ig light chain k", "Hoechst", "HTOmega", "IgE"])
def test_proteins_are_no_controls(name: str) -> None:
    assert control(undecorated(name)) is None


def test_a_control_that_the_reference_has_is_found_by_its_own_name() -> None:
    panel = ProteinNames(("IgG1", "CD3"))
    assert panel.find("IgG1").places == (0,)  # type: ignore[union-attr]
    assert panel.find("IgG1_TotalSeqB").reason == "isotype control"  # type: ignore[union-attr]


def test_spelling_keeps_digits_apart() -> None:
    assert spelling("CD66a/c/e") == spelling("cd66a.c.e") == "cd66ace"
    assert spelling("CD4-1") == spelling("cd4.1") != spelling("CD41")
    assert spelling("FcεRIα") == spelling("FceRIa")


def test_no_base_is_made_of_nothing() -> None:
    assert without_suffix("-1") == ()
    assert undecorated("ADT_") == "ADT_"
