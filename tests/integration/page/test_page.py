"""The page for people without Python, in a real browser, from a file to its downloads."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import anndata
import httpx
import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect
from tests.support.browser import watched
from tests.support.command_line import parse
from tests.support.page_steps import MAX_BYTES, choose, download, drop, map_to_result, rows, upload, write
from tests.support.pages import parse_page, references_elsewhere
from tests.support.server import app_in_thread
from tests.support.stored_queries import FORMATS
from tests.support.toy_bundle import TOY, toy_query, write_toy_bundle
from tests.support.uploads import wait_until_empty

from totalanvi.serving.client.chosen import split_reference
from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.endpoint.catalogue import Catalogue
from totalanvi.serving.endpoint.references import References
from totalanvi.serving.endpoint.routes import Endpoint
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.limits import Limits


def test_from_a_file_to_its_downloads(
    page: Page, query: Path, uploads: Path, reference: LocalReference, tmp_path: Path
) -> None:
    expected = reference.map(query)
    labels = list(expected.obs["totalanvi_label"].astype(str))
    expect(page.locator("#about")).to_have_text("toy 1: 4 cell types, 6 proteins and 60 genes, from 1,000 cells.")

    upload(page, query)
    expect(page.locator("#preview")).to_contain_text("60 of the reference's 60 by var_names")
    expect(page.locator("#preview")).to_contain_text("600 cells")
    page.get_by_role("button", name="Map 600 cells").click()
    expect(page.locator("#summary")).to_contain_text("600 cells mapped to toy 1.")
    expect(page.locator("#result-title")).to_be_focused()

    counts = {
        row.locator(".named span").last.inner_text(): row.locator("td").nth(1).inner_text()
        for row in page.locator("#types tbody tr").all()
    }
    assert counts == {label: str(labels.count(label)) for label in set(labels)}

    page.fill("#search", "cell12")
    expect(page.locator("#cells-text")).to_have_text("11 cells of 600")
    assert [row[:2] for row in rows(page)] == [[f"cell{i}", labels[i]] for i in (12, *range(120, 130))]
    page.fill("#search", "")
    expect(page.locator("#cells-text")).to_have_text("600 cells of 600")
    page.get_by_role("button", name="Novelty").click()
    novelty = np.sort(expected.obs["totalanvi_novelty"].to_numpy())
    assert [row[3] for row in rows(page)] == [f"{value:.3f}" for value in novelty[: len(rows(page))]]
    expect(page.locator("#cells th[aria-sort=ascending]")).to_contain_text("Novelty")

    annotated = download(page, "Annotated file")
    assert annotated.suggested_filename == "my cells.annotated.h5ad"
    annotated.save_as(tmp_path / "annotated.h5ad")
    assert list(anndata.read_h5ad(tmp_path / "annotated.h5ad").obs["totalanvi_label"]) == labels
    for button, suffix, read in (
        ("Table (.parquet)", "parquet", pd.read_parquet),
        ("Table (.csv)", "csv", pd.read_csv),
    ):
        table = download(page, button)
        assert table.suggested_filename == f"my cells.annotated.{suffix}"
        table.save_as(tmp_path / f"table.{suffix}")
        assert list(read(tmp_path / f"table.{suffix}")["totalanvi_label"]) == labels
    picture = download(page, "Map (.png)")
    picture.save_as(tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    charts = download(page, "Charts (.svg)")
    assert charts.suggested_filename == "my cells.charts.svg"
    charts.save_as(tmp_path / "charts.svg")
    drawn = [text.text for text in ElementTree.parse(tmp_path / "charts.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert drawn[0] == "my cells on toy 1"
    assert {"confidence", "novelty"} <= set(drawn)
    assert all(any(f"  {label}" in str(text) for text in drawn) for label in counts)
    report = download(page, "Report (.html)")
    assert report.suggested_filename == "my cells.report.html"
    report.save_as(tmp_path / "report.html")
    kept = parse_page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert kept.all("h1")[0].text == "Mapped query: my cells.h5ad"
    assert references_elsewhere(kept) == []

    page.get_by_role("button", name="Choose another file").last.click()
    expect(page.locator("#file")).to_be_focused()
    wait_until_empty(uploads)


def colours(page: Page) -> set[str]:
    """Colours of the map that many pixels have."""
    return set(
        page.evaluate("""() => {
        const map = document.getElementById("map");
        const { data } = map.getContext("2d").getImageData(0, 0, map.width, map.height);
        const counts = {};
        for (let i = 0; i < data.length; i += 4) {
          const colour = "#" + [data[i], data[i + 1], data[i + 2]].map((n) => n.toString(16).padStart(2, "0")).join("");
          counts[colour] = (counts[colour] ?? 0) + 1;
        }
        return Object.keys(counts).filter((colour) => counts[colour] > 30);
    }""")
    )


def test_the_map_shows_labels_numbers_and_proteins(page: Page, query: Path) -> None:
    map_to_result(page, query)
    page.wait_for_timeout(500)
    behind, four = "#c4c8cc", {"#172ce5", "#a88a11", "#e5396d", "#5c93e5"}
    assert four | {behind} <= colours(page)

    page.locator("#legend button").first.click()
    page.wait_for_timeout(300)
    assert len(four & colours(page)) == 1
    expect(page.locator("#only option:checked")).not_to_have_text("all")
    page.locator("#legend button").first.click()

    for choice in ("confidence", "novelty", "protein 1"):
        page.select_option("#colour", choice)
        name = TOY.proteins[1] if choice.startswith("protein") else choice
        expect(page.locator("#map")).to_have_attribute("aria-label", re.compile(f"600 cells.*by {name}"))
        page.wait_for_timeout(300)
        assert not four & colours(page)
    page.get_by_role("button", name="Show CD19 on the map").click()
    expect(page.locator("#legend")).to_contain_text("CD19")

    # A cell that is chosen in the table is told beside the map.
    page.fill("#search", "cell7")
    page.get_by_role("button", name="cell7", exact=True).click()
    expect(page.locator("#map-text")).to_contain_text("cell7: ")
    expect(page.locator("#cells tr.chosen")).to_contain_text("cell7")


def test_what_to_beware_of_is_told_before_the_wait(page: Page, url: str, tmp_path: Path) -> None:
    poor = toy_query(50)[:, 25:].copy()
    panel = poor.obsm["protein_expression"]
    poor.obsm["protein_expression"] = panel.rename(columns={"CD4": "anti-human CD4"}).assign(CD9999=1.0)
    file = write(poor, tmp_path / "poor.h5ad")
    found = httpx.post(f"{url}/v1/uploads", content=file.read_bytes(), timeout=60).json()["preview"]
    assert found["messages"]

    upload(page, file)

    shown = page.locator("#preview-content")
    beware = shown.get_by_role("note", name="Warnings")
    assert beware.get_by_role("listitem").all_inner_texts() == found["messages"]
    expect(shown).to_contain_text("35 of the reference's 60 by var_names; they carry")
    shown.get_by_text("How proteins were matched").click()
    expect(shown.get_by_role("region", name="Taken for")).to_contain_text("anti-human CD4")
    expect(shown).to_contain_text("Unknown to the reference, and left aside: 1. CD9999")
    shown.get_by_text("How genes were matched").click()
    expect(shown).to_contain_text("Missing from the file: 25.")
    expect(page.locator("#result")).to_be_hidden()


def test_proteins_in_an_unusual_place_are_found_when_it_is_named(page: Page, url: str, tmp_path: Path) -> None:
    query = toy_query(30)
    query.obsm["adt"] = query.obsm.pop("protein_expression")
    file = write(query, tmp_path / "blood.h5ad")
    upload(page, file)
    expect(page.locator("#preview-content")).to_contain_text("RNA from X; no proteins")
    expect(page.locator("#preview-content")).to_contain_text("say before where they are")

    page.get_by_role("button", name="Choose another file").first.click()
    page.get_by_text("are in an unusual place").click()
    page.get_by_label("Proteins: key of obsm, or modality").fill("adt")
    (tmp_path / "large.h5ad").write_bytes(bytes(MAX_BYTES + 1))
    choose(page, tmp_path / "large.h5ad")
    command = page.get_by_role("alert").locator("code").inner_text()
    assert shlex.split(command)[2:] == [url, "large.h5ad", "-o", "annotated.h5ad", "--proteins", "adt"]
    assert parse(command) == "map"

    map_to_result(page, file)
    download(page, "Report (.html)").save_as(tmp_path / "report.html")
    facts = parse_page((tmp_path / "report.html").read_text(encoding="utf-8")).section("What was mapped").rows()
    assert dict(facts)["Proteins read from"] == "obsm 'adt'"


@pytest.mark.parametrize(("form", "suffix", "given_back"), [("h5mu", "h5mu", "h5mu"), ("10x h5", "h5", "h5ad")])
def test_files_of_other_kinds_are_dropped_and_come_back(
    page: Page, tmp_path: Path, form: str, suffix: str, given_back: str
) -> None:
    written = FORMATS[form](toy_query(20), tmp_path)
    drop(page, written.rename(tmp_path / f"blood.{suffix}"))
    page.get_by_role("button", name="Map 20 cells").click()
    expect(page.locator("#summary")).to_contain_text("20 cells mapped to toy 1.")
    assert download(page, "Annotated file").suggested_filename == f"blood.annotated.{given_back}"


def test_one_of_several_references_is_chosen(
    browser: Browser, reference: LocalReference, uploads: Path, query: Path, tmp_path: Path
) -> None:
    other = write_toy_bundle(tmp_path / "other", name="other", version="2")
    endpoint = Endpoint(
        Limits(max_file_bytes=MAX_BYTES, max_cells=256), References(Catalogue([reference.bundle.path, other]))
    )
    endpoint.references.look()
    with app_in_thread(create_app(endpoint)) as web, watched(browser, str(web.base_url).rstrip("/")) as page:
        expect(page.locator("#about")).to_contain_text("toy 1:")
        page.get_by_label("Reference").select_option("other 2")
        expect(page.locator("#about")).to_contain_text("other 2:")
        (tmp_path / "large.h5ad").write_bytes(bytes(MAX_BYTES + 1))
        choose(page, tmp_path / "large.h5ad")
        address = shlex.split(page.get_by_role("alert").locator("code").inner_text())[2]
        assert split_reference(address, None) == (str(web.base_url).rstrip("/"), "other@2")
        map_to_result(page, query)
        expect(page.locator("#summary")).to_contain_text("600 cells mapped to other 2.")
