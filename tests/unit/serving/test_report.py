"""`totalanvi map --report page.html` and `totalanvi report`: what a page about a mapped query says."""

from __future__ import annotations

import shutil
from pathlib import Path

import anndata
import mudata
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from anndata import AnnData
from tests.support.command_line import Run, exit_code
from tests.support.pages import Node, parse_page, references_elsewhere
from tests.support.queries import assert_three_parts, make_mudata, toy_mudata, write_anndata, write_mudata
from tests.support.server import app_in_thread, endpoint_of
from tests.support.toy_bundle import TOY, sign, toy_cells, toy_query, write_toy_bundle

from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.report.sample import MAP_CELLS, CellSample
from totalanvi.serving.report.tally import CellResults, Tally

SECTIONS = [
    *("What was mapped", "Cell types", "Map", "Confidence", "Novelty", "Proteins", "Genes and proteins matched"),
    "How to cite",
]


def read(path: Path) -> Node:
    """Read a page, which asks for nothing from elsewhere."""
    page = parse_page(path.read_text(encoding="utf-8"))
    assert references_elsewhere(page) == []
    return page


def strange_query(n_cells: int = 60) -> AnnData:
    """A third of its cells express the markers of all labels at once, which no cell of the reference does."""
    query = toy_query(n_cells)
    counts = query.X.toarray()
    counts[::3] = 6
    query.X = counts
    return query


@pytest.fixture(scope="module")
def mapped(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Node, AnnData]:
    """A folder with `out.h5ad` and the page that mapping wrote with it; that page, and the output."""
    folder = tmp_path_factory.mktemp("mapped")
    query = strange_query()
    arguments = ("map", toy_folder, write_anndata(query, folder / "blood.h5ad"), "-o", folder / "out.h5ad")
    assert exit_code(*arguments, "--report", folder / "page.html", "--batch-size", 7) == 0
    return folder, read(folder / "page.html"), anndata.read_h5ad(folder / "out.h5ad")


def test_a_page_has_all_sections_and_links_to_them(mapped: tuple[Path, Node, AnnData]) -> None:
    _, page, _ = mapped
    assert page.all("h1")[0].text == "Mapped query: blood.h5ad"
    assert [section.all("h2")[0].text for section in page.all("section")] == SECTIONS
    assert [link.text for link in page.all("nav")[0].all("a")] == SECTIONS
    anchors = {heading.attributes["id"] for heading in page.all("h2")}
    assert {link.attributes["href"].removeprefix("#") for link in page.all("a")} == anchors


def test_it_says_what_was_mapped_onto_what(mapped: tuple[Path, Node, AnnData], reference: LocalReference) -> None:
    _, page, _ = mapped
    facts = dict(page.section("What was mapped").rows())
    assert facts["Query"] == "blood.h5ad"
    assert facts["Cells"] == "60"
    assert facts["Reference"] == "toy 1"
    assert facts["Its SHA-256"] == reference.bundle.digest
    assert facts["RNA read from"] == "X"
    assert facts["Proteins read from"] == "obsm 'protein_expression'"
    assert facts["Proteins imputed"].startswith("without background, as the average of batches, means of 25")
    cited = [item.text for item in page.section("How to cite").all("li")]
    assert reference.bundle.digest in cited[0]
    assert any("10.1038/s41592-020-01050-x" in item for item in cited)


def test_composition_confidence_and_novelty_are_those_of_the_cells(mapped: tuple[Path, Node, AnnData]) -> None:
    _, page, output = mapped
    counts = output.obs["totalanvi_label"].value_counts()
    head, *rows = page.section("Cell types").rows()
    assert head == ["Cell type", "", "Cells", "Share", "Median confidence"]
    found = {name.partition(" ")[2]: (int(cells), share) for name, _, cells, share, _ in rows}
    assert found == {name: (n, f"{100 * n / 60:.1f} %") for name, n in counts.items() if n}
    assert rows[-1][0] == "? unknown"
    bars = [bar.attributes["style"] for bar in page.section("Cell types").all("div") if "style" in bar.attributes]
    longest = max(counts)
    assert [float(bar.split(":")[1].split("%")[0]) for bar in bars] == pytest.approx(
        [100 * cells / longest for cells, _ in found.values()], abs=0.01
    )
    for section, column in (("Confidence", "totalanvi_confidence"), ("Novelty", "totalanvi_novelty")):
        _, *steps = page.section(section).rows()
        expected, _ = np.histogram(output.obs[column].to_numpy(np.float64), bins=np.linspace(0, 1, 21))
        assert [int(cells) for _, cells in steps] == expected.tolist()
    n_unknown = int(counts["unknown"])
    assert n_unknown > 10
    lead = page.all("p", class_="lead")[0].text
    assert lead.startswith("60 cells were mapped to the reference toy 1, which has 4 cell types")
    assert f"{n_unknown} ({100 * n_unknown / 60:.1f} %) look like none of the reference's cells" in lead
    warning = page.all("div", role="note")[0].text
    assert f"{100 * n_unknown / 60:.1f} % of the cells are more novel than cells like the reference's" in warning


def test_the_map_shows_the_cells_before_the_reference(mapped: tuple[Path, Node, AnnData], toy_folder: Path) -> None:
    _, page, output = mapped
    (canvas,) = page.section("Map").all("svg", class_="map")
    shown = [len(path.attributes["d"].split("M")) - 1 for path in canvas.all("path")]
    n_landmarks = len(LocalReference(toy_folder).landmarks())
    counts = output.obs["totalanvi_label"].value_counts()
    known = sorted((int(n) for name, n in counts.items() if n and name != "unknown"), reverse=True)
    assert shown == [n_landmarks, *known, int(counts["unknown"])]
    colours = [path.attributes.get("stroke", path.attributes["fill"]) for path in canvas.all("path")]
    assert len(set(colours)) == len(colours)


def test_proteins_are_listed_with_their_reliability(mapped: tuple[Path, Node, AnnData]) -> None:
    _, page, output = mapped
    section = page.section("Proteins")
    head, *rows = section.rows()
    assert head[:3] == ["Protein", "", "Pearson"]
    assert [row[0] for row in rows] == TOY.proteins
    assert [row[2] for row in rows] == ["0.850"] * 5 + ["0.100"]
    assert [row[-1] for row in rows] == [""] * 5 + ["not reliable"]
    means = np.expm1(np.log1p(output.obsm["totalanvi_protein"].to_numpy(np.float64)).mean(axis=0))
    assert [float(row[5]) for row in rows] == pytest.approx(means.tolist(), rel=5e-3)
    assert "measured 6 of the reference's 6 proteins" in section.text
    (matrix,) = section.all("svg")
    assert len([square for square in matrix.all("rect") if square.all("title")]) == 6 * 5


@pytest.mark.parametrize("form", ["h5ad", "parquet", "parts"])
def test_a_report_made_later_says_the_same(
    mapped: tuple[Path, Node, AnnData], run: Run, toy_folder: Path, tmp_path: Path, form: str
) -> None:
    folder, page, _ = mapped
    output = tmp_path / {"h5ad": "out.h5ad", "parquet": "out.parquet", "parts": "out"}[form]
    arguments = ("map", toy_folder, folder / "blood.h5ad", "-o", f"{output}/" if form == "parts" else output)
    assert run(*arguments, "--batch-size", 13)[0] == 0
    later = tmp_path / "later.html"
    code, printed, _ = run("report", output, "-o", later, "--reference", toy_folder)
    assert code == 0
    assert str(later) in printed
    for title in SECTIONS[1:]:
        # Sums of single numbers differ in their last digits at most, which are not shown.
        assert read(later).section(title).text == page.section(title).text
    assert dict(read(later).section("What was mapped").rows())["Query"] == output.name
    assert [node.text for node in read(later).all("div", role="note")] == [
        node.text for node in page.all("div", role="note")
    ]


def test_a_page_stands_beside_the_output_and_replaces_nothing(
    mapped: tuple[Path, Node, AnnData], run: Run, tmp_path: Path
) -> None:
    output = shutil.copy(mapped[0] / "out.h5ad", tmp_path / "out.h5ad")
    assert run("report", output)[0] == 0
    page = read(tmp_path / "out.html")
    assert len(page.section("Map").all("svg", class_="map")[0].all("path")) == 5
    code, _, said = run("report", output)
    assert code == 2
    assert_three_parts(said, "out.html", "--overwrite")
    assert run("report", output, "--overwrite")[0] == 0
    code, _, said = run("report", output, "-o", tmp_path / "out.pdf")
    assert code == 2
    assert_three_parts(said, ".html", "out.pdf")


def test_another_reference_is_not_drawn_behind(mapped: tuple[Path, Node, AnnData], run: Run, tmp_path: Path) -> None:
    other = write_toy_bundle(tmp_path / "other", version="2")
    code, _, said = run("report", mapped[0] / "out.h5ad", "-o", tmp_path / "page.html", "--reference", other)
    assert code == 2
    assert "expected the reference that was mapped to" in said
    assert not (tmp_path / "page.html").exists()


def test_a_mudata_with_cells_that_lack_rna(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    query = write_mudata(toy_mudata(n_cells=15, n_rna_only=3, n_protein_only=2), tmp_path / "query.h5mu")
    arguments = ("map", toy_folder, query, "-o", tmp_path / "out.h5mu", "--report", tmp_path / "page.html")
    assert run(*arguments)[0] == 0
    assert run("report", tmp_path / "out.h5mu")[0] == 0
    assert mudata.read_h5mu(tmp_path / "out.h5mu").n_obs == 15
    for name in ("page.html", "out.html"):
        page = read(tmp_path / name)
        assert "2 of 15 cells have no RNA" in page.all("div", role="note")[0].text
        assert dict(page.section("What was mapped").rows())["Cells"].startswith("15, 2 of them without RNA")
        assert sum(int(row[2]) for row in page.section("Cell types").rows()[1:]) == 13


def test_without_proteins_and_with_none_matched(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    query = write_anndata(toy_query(9, proteins=False), tmp_path / "rna.h5ad")
    arguments = ("map", toy_folder, query, "-o", tmp_path / "a.parquet", "--no-impute")
    assert run(*arguments, "--report", tmp_path / "a.html")[0] == 0
    page = read(tmp_path / "a.html")
    assert page.section("Proteins").text.endswith("No proteins were imputed.")
    assert dict(page.section("What was mapped").rows())["Proteins read from"] == "none"
    adata = toy_query(9)[:, :30].copy()
    adata.obsm["protein_expression"].columns = [f"unknown{i}" for i in range(6)]
    query = write_anndata(adata, tmp_path / "few.h5ad")
    assert run("map", toy_folder, query, "-o", tmp_path / "b.h5ad", "--report", tmp_path / "b.html")[0] == 0
    page = read(tmp_path / "b.html")
    assert "measured none of the reference's proteins" in page.section("Proteins").text
    warned = page.all("div", role="note")[0].text
    for part in ("None of the query's 6 proteins", "less than 80%", "RNA cannot predict 'IgG1'"):
        assert part in warned
    matched = page.section("Genes and proteins matched")
    assert [row[2:] for row in matched.rows()[1:]] == [["30", "30", "0"], ["0", "6", "6"]]
    assert "Missing genes, the most important first (30)" in [summary.text for summary in matched.all("summary")]
    assert "No proteins matched." in matched.text


def test_no_cell_with_rna(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    query = toy_mudata(n_cells=4, n_rna_only=1, n_protein_only=2)
    query = make_mudata(rna=query["rna"][:1].copy(), adt=query["adt"])
    path = write_mudata(query, tmp_path / "query.h5mu")
    out = tmp_path / "out.parquet"
    assert run("map", toy_folder, path, "-o", out)[0] == 0
    table = pq.read_table(out)
    absent = table.filter(table["totalanvi_label"].is_null())
    assert 0 < absent.num_rows < table.num_rows
    pq.write_table(absent, tmp_path / "absent.parquet")
    assert run("report", tmp_path / "absent.parquet")[0] == 0
    page = read(tmp_path / "absent.html")
    assert page.all("p", class_="lead")[0].text.startswith(f"None of the {absent.num_rows} cells has RNA")
    for title in ("Cell types", "Confidence", "Novelty"):
        assert "No cell was mapped." in page.section(title).text


def test_labels_without_parents(run: Run, query: Path, tmp_path: Path) -> None:
    folder = write_toy_bundle(tmp_path / "toy", parents={})
    out = tmp_path / "out.h5ad"
    assert run("map", folder, query, "-o", out, "--report", tmp_path / "page.html")[0] == 0
    assert "totalanvi_certain" not in anndata.read_h5ad(out).obs
    assert run("report", out)[0] == 0
    for name in ("page.html", "out.html"):
        assert sum(int(row[2]) for row in read(tmp_path / name).section("Cell types").rows()[1:]) == 23


def test_names_of_strangers_stay_text(run: Run, tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    folder = write_toy_bundle(tmp_path / "toy")
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"CD4 T"', f'"{bad}"').replace('"CD19"', f'"{bad}&amp;"'))
    sign(folder)
    query = toy_query(20)
    query.var_names = [bad, *query.var_names[1:]]
    # Without a slash, which anndata does not write.
    query.obsm["protein_expression"].columns = [f"{bad.replace('/', '')}{i}" for i in range(6)]
    path = write_anndata(query, tmp_path / "<script>alert(1)<&.h5ad")
    assert run("map", folder, path, "-o", tmp_path / "out.h5ad", "--report", tmp_path / "page.html")[0] == 0
    assert run("report", tmp_path / "out.h5ad")[0] == 0
    for name in ("page.html", "out.html"):
        page = read(tmp_path / name)
        assert any(row[0].endswith(bad) for row in page.section("Cell types").rows())
        assert page.section("Proteins").rows()[1][0] == f"{bad}&amp;"
        assert f"{bad.replace('/', '')}0" in page.section("Genes and proteins matched").text
    assert read(tmp_path / "page.html").all("h1")[0].text == "Mapped query: <script>alert(1)<&.h5ad"


def test_an_endpoint_gives_the_same_page(
    mapped: tuple[Path, Node, AnnData], run: Run, toy_folder: Path, tmp_path: Path
) -> None:
    folder, page, _ = mapped
    served = endpoint_of(toy_folder)
    served.references.look()
    with app_in_thread(create_app(served)) as web:
        arguments = (
            "map",
            web.base_url,
            folder / "blood.h5ad",
            "-o",
            tmp_path / "out.h5ad",
            "--report",
            tmp_path / "page.html",
        )
        assert run(*arguments)[0] == 0
        later = ("report", tmp_path / "out.h5ad", "-o", tmp_path / "later.html", "--reference", web.base_url)
        assert run(*later)[0] == 0
    remote = read(tmp_path / "page.html")
    assert read(tmp_path / "later.html").section("Map").text == remote.section("Map").text
    for title in SECTIONS:
        assert remote.section(title).text == page.section(title).text
    assert len(remote.section("Map").all("svg", class_="map")[0].all("path")) == 6


@pytest.mark.parametrize("what", ["query", "folder", "table", "text", "nothing", "damaged"])
def test_what_mapping_did_not_write_is_refused(
    mapped: tuple[Path, Node, AnnData], run: Run, query: Path, tmp_path: Path, what: str
) -> None:
    given = tmp_path / what
    if what == "query":
        given = query
    elif what == "folder":
        given.mkdir()
    elif what == "table":
        given = tmp_path / "table.parquet"
        pd.DataFrame({"a": [1]}).to_parquet(given)
    elif what == "text":
        given.write_text("nothing of the kind")
    elif what == "damaged":
        given = tmp_path / "damaged.h5ad"
        content = (mapped[0] / "out.h5ad").read_bytes()
        given.write_bytes(content[: len(content) // 2])
    code, _, said = run("report", given, "-o", tmp_path / "page.html")
    assert code == 2
    assert_three_parts(said)
    assert not (tmp_path / "page.html").exists()


def test_labels_that_were_renamed_are_refused(mapped: tuple[Path, Node, AnnData], run: Run, tmp_path: Path) -> None:
    output = mapped[2].copy()
    output.obs["totalanvi_label"] = output.obs["totalanvi_label"].cat.rename_categories({"NK": "natural killer"})
    code, _, said = run("report", write_anndata(output, tmp_path / "out.h5ad"))
    assert code == 2
    assert_three_parts(said, "natural killer")


# What is gathered while cells pass.


def _results(reference: LocalReference, n_cells: int) -> MappedCells:
    return reference.score(toy_cells(n_cells)[0], MapOptions())


@pytest.mark.parametrize("block", [1, 7, 64, 200])
def test_a_tally_does_not_depend_on_blocks(reference: LocalReference, block: int) -> None:
    results = _results(reference, 200)

    def gathered(size: int) -> Tally:
        tally = Tally(len(TOY.labels), len(TOY.proteins), 0.9, map_cells=50)
        for start in range(0, 200, size):
            tally.add(CellResults.of(results.rows(slice(start, start + size))))
        return tally

    found, expected = gathered(block), gathered(200)
    assert found.n_beyond == expected.n_beyond == int((results.novelty > 0.9).sum()) > 0
    for name in ("confidence", "novelty", "set_sizes", "label_protein", "mean_protein"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_array_equal(found.sample.coordinates, expected.sample.coordinates)
    np.testing.assert_array_equal(found.sample.label, expected.sample.label)


def test_what_is_kept_does_not_grow_with_the_cells() -> None:
    sample = CellSample()
    for start in range(0, 200_000, 16_384):
        places = np.arange(start, start + 16_384)
        sample.add(places, np.stack([places, places], axis=1).astype(np.float32), places.astype(np.int32))
        assert len(sample.coordinates) <= MAP_CELLS
    assert len(sample.label) == MAP_CELLS
    assert np.all(np.diff(sample.label) > 0)
    # Evenly: in each tenth of the query about a tenth of what was kept.
    per_tenth = np.bincount(sample.label * 10 // (13 * 16_384))
    assert per_tenth.min() > 0.9 * MAP_CELLS / 10
    assert per_tenth.max() < 1.1 * MAP_CELLS / 10


def test_the_sample_keeps_no_pattern() -> None:
    sample = CellSample(10_000)
    places = np.arange(100_000)
    sample.add(places, np.zeros((100_000, 2), np.float32), places.astype(np.int32))
    for period in (2, 3, 8, 10, 1000):
        counts = np.bincount(sample.label % period)
        expected = 10_000 / period
        assert np.abs(counts - expected).max() < 6 * np.sqrt(expected)
