"""Names of features: a decorated name means what the plain one does, and what may be two things is never guessed."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from totalanvi.serving.alignment.gene_names import GeneNames
from totalanvi.serving.alignment.matching import Found, match
from totalanvi.serving.alignment.protein_names import ProteinNames, spelling, undecorated

PROTEINS = (
    *("CD3", "CD4", "CD8a", "CD8b", "CD11a", "CD11b", "CD14", "CD16", "CD41", "CD45", "CD45RA", "CD45RO", "CD158e1"),
    *("HLA-DR", "HLA-A-B-C", "PD-1", "TIM-3", "TIGIT", "Siglec-8", "TCRab", "TCRVa7.2", "IgD", "KLRG1", "CX3CR1"),
)
VENDORS = st.sampled_from(["{}_TotalSeqB", "{}-TotalSeq-C", "{}_TotalSeqA", "{}_TotalC", "{}"])
PREFIXES = st.sampled_from(
    ["anti-human {}", "anti-{}", "Hu.{}", "HuMs.{}", "ADT_{}", "adt-{}", "prot_{}", "{}_ADT", "{}"]
)
ENDINGS = st.sampled_from(["{}-1", "{}.2", "{}_UCHT1", "{}.HI100", "{}-RPA-T4", "{}_A15153G", "{} (L243)", "{}"])
CASES = st.sampled_from([str, str.lower, str.upper])
SEPARATORS = st.sampled_from(["-", "_", ".", " ", ""])
PARTS = st.sampled_from(
    [
        "CD3",
        "CD45RA",
        "anti-human ",
        "Hu.",
        "ADT_",
        "_TotalSeqB",
        "-CTCATTGTAACTCCT",
        "|CD3E|pAbO",
        "(UCHT1)",
        "-",
        " ",
        "1",
    ]
)

decorations = st.tuples(PREFIXES, VENDORS, ENDINGS)


@given(place=st.integers(0, len(PROTEINS) - 1), decoration=decorations, case=CASES, own=VENDORS)
def test_a_decorated_name_means_what_the_plain_one_does(
    place: int, decoration: tuple[str, str, str], case: type[str], own: str
) -> None:
    reference = ProteinNames([own.format(name) for name in PROTEINS])
    prefix, vendor, ending = decoration
    name = case(vendor.format(prefix.format(ending.format(PROTEINS[place]))))
    found = reference.find(name)
    assert found is not None
    assert found.places == (place,)


@given(place=st.integers(0, len(PROTEINS) - 1), separator=SEPARATORS)
def test_separators_between_letters_do_not_matter(place: int, separator: str) -> None:
    name = PROTEINS[place]
    assume(not any(a.isdigit() and b.isdigit() for a, _, b in zip(name, name[1:], name[2:], strict=False)))
    assert ProteinNames(PROTEINS).find(name.replace("-", separator)).places == (place,)  # type: ignore[union-attr]


@given(names=st.lists(st.tuples(st.sampled_from(PROTEINS), decorations), min_size=1, max_size=12))
def test_two_names_never_share_a_protein_unless_they_are_the_same(
    names: list[tuple[str, tuple[str, str, str]]],
) -> None:
    reference = ProteinNames(PROTEINS)
    query = [vendor.format(prefix.format(ending.format(protein))) for protein, (prefix, vendor, ending) in names]
    matching = match(query, [reference.find(name) for name in query], sums_equals=False)
    for place in matching.places:
        assert len({query[i] for i in np.flatnonzero(matching.columns == place)}) == 1
    for position, (protein, _) in enumerate(names):
        if matching.columns[position] >= 0:
            assert PROTEINS[matching.columns[position]] == protein
        else:
            assert matching.left_out[position][1] == (PROTEINS.index(protein),)


@given(first=decorations, second=decorations, protein=st.sampled_from(["CD4", "CD14", "CD19"]))
def test_a_name_of_two_of_the_references_proteins_is_not_guessed(
    first: tuple[str, str, str], second: tuple[str, str, str], protein: str
) -> None:
    pair = [vendor.format(prefix.format(ending.format(protein))) for prefix, vendor, ending in (first, second)]
    assume(spelling(pair[0]) != spelling(pair[1]))
    assume(protein not in pair)
    found = ProteinNames([*pair, "CD56"]).find(protein)
    assert found is not None
    # Where one of the two has an ending that the other has not, the other is meant; brackets tell a name by themselves.
    endings = [ending not in ("{}", "{} (L243)") for _, _, ending in (first, second)]
    if endings[0] == endings[1]:
        assert found.places == (0, 1)
    else:
        assert found.places == (endings.index(False),)


@given(name=st.text(max_size=40) | st.lists(PARTS, max_size=7).map("".join))
def test_any_text_can_be_judged(name: str) -> None:
    found = ProteinNames(PROTEINS).find(name)
    assert found is None or all(0 <= place < len(PROTEINS) for place in found.places)
    plain = undecorated(name)
    assert undecorated(plain).strip() == plain.strip(), "all decorations come off at once"
    GeneNames(("CD3E", "C9orf72"), None, ("ENSG00000198851", None)).find(name)


@given(data=st.data(), n_names=st.integers(0, 12))
def test_the_order_of_names_does_not_matter(data: st.DataObject, n_names: int) -> None:
    names = data.draw(st.lists(st.sampled_from("abcdef"), min_size=n_names, max_size=n_names))
    ways = st.sampled_from(["map", "name", "spelling", "suffix"])
    meanings = {name: Found((data.draw(st.integers(0, 2)),), data.draw(ways)) for name in "abcdef"}
    order = data.draw(st.permutations(range(n_names)))
    for sums in (True, False):
        one = match(names, [meanings[name] for name in names], sums_equals=sums).columns
        shuffled = [names[i] for i in order]
        other = match(shuffled, [meanings[name] for name in shuffled], sums_equals=sums).columns
        np.testing.assert_array_equal(one[list(order)], other)
