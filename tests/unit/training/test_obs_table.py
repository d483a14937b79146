"""Cell types and batches from a table beside the counts."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.support.command_line import QuietRun
from tests.support.reference_cells import draw_adata, draw_mudata
from tests.support.stored_queries import FORMATS

from totalanvi.training.checkpoints.checkpoint import read_checkpoint
from totalanvi.training.errors import RegistrationError
from totalanvi.training.registration.obs_table import join_obs, read_obs_table


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", ["10x h5", "10x folder"])
def test_a_10x_matrix_trains_with_a_table_of_labels(kind: str, run: QuietRun, tmp_path: Path) -> None:
    adata = draw_adata()
    adata.obs.rename_axis("barcode").to_csv(tmp_path / "cells.csv")
    reference = FORMATS[kind](adata, tmp_path)
    command = ["train", reference, "--obs", tmp_path / "cells.csv", "--labels", "kind", "--batch", "donor"]
    command += ["--unlabeled", "unknown", "-o", tmp_path / "out", "--max-epochs", "1", "--no-readout"]
    code, said = run(*command)
    assert code == 0, said
    registry = read_checkpoint(tmp_path / "out").registry
    assert registry.labels == ("B", "T")
    assert registry.batches == ("one", "two")


@pytest.mark.parametrize(
    "text",
    [
        "barcode,kind,depth\n001,T,1.5\n002,,2\n",
        "\ufeffbarcode\tkind\tdepth\n001\tT\t1.5\n002\t\t2\n",
        '"kind","depth"\n"001","T",1.5\n"002",NA,2\n',
        "kind\tdepth\n001\tT\t1.5\n002\t\t2\n",
    ],
    ids=["csv", "tsv", "csv of R", "tsv of R"],
)
def test_tables_as_they_are_written(text: str, tmp_path: Path) -> None:
    (tmp_path / "cells.gz").write_bytes(gzip.compress(text.encode()))
    for path in (write(tmp_path / "cells.csv", text), tmp_path / "cells.gz"):
        table = read_obs_table(path)
        assert list(table.index) == ["001", "002"]
        assert list(table.columns) == ["kind", "depth"]
        assert table["kind"].iloc[0] == "T"
        assert pd.isna(table["kind"].iloc[1])
        np.testing.assert_array_equal(table["depth"], [1.5, 2])


def test_codes_that_begin_with_zeros_are_no_numbers(tmp_path: Path) -> None:
    table = read_obs_table(write(tmp_path / "cells.csv", "cell,well,cluster,depth\na,01,0,0.5\nb,10,10,-0.25\nc,,,\n"))
    assert list(table["well"][:2]) == ["01", "10"]
    np.testing.assert_array_equal(table["cluster"], [0, 10, np.nan])
    np.testing.assert_array_equal(table["depth"], [0.5, -0.25, np.nan])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"table of cells \(CSV or TSV, UTF-8\) at .*cells.csv, found that it cannot be read"),
        ("a,b\n1,2\n1,2,3,4\n", "found that it cannot be read .*; check the path"),
        ("barcode\n1\n2\n", "found 2 rows with 0 columns beside the names; separate columns"),
        ("barcode;kind\n1;T\n", "found 1 rows with 0 columns"),
        ("barcode,kind\n", "found 0 rows with 1 columns"),
        ("barcode,kind\na,T\nb,T\na,B\n", "each cell once in .*, found 'a' twice; remove one"),
        ("barcode,kind\na,T\n,T\n", "each cell once in .*, found a row without a name"),
    ],
)
def test_bad_tables_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RegistrationError, match=message):
        read_obs_table(write(tmp_path / "cells.csv", text))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("cells.csv", b"\xff\xfe\x00\x01" * 20, id="no text"),
        pytest.param("cells.csv.gz", gzip.compress(b"a,b\n1,2\n" * 999)[:40], id="cut off"),
        pytest.param("cells.csv.gz", b"a,b\n1,2\n", id="no gzip"),
        pytest.param("cells.csv.zip", b"PK\x03\x04\xff\xfe", id="no zip"),
        pytest.param("cells.csv.gz", gzip.compress(b"a,b\n1,2\n")[:12] + b"\x00" * 40, id="overwritten"),
    ],
)
def test_damaged_tables_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RegistrationError, match="found that it cannot be read"):
        read_obs_table(tmp_path / name)


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(RegistrationError, match="found that it cannot be read"):
            read_obs_table(path)


def test_columns_are_joined_by_the_names_of_cells() -> None:
    adata = draw_adata()
    table = pd.DataFrame({"site": list("abc")}, index=["cell3", "elsewhere", "cell1"])
    with pytest.warns(UserWarning, match="18 of 20 cells are not in the table of cells"):
        join_obs(adata, table)
    assert list(adata.obs["site"].iloc[[1, 3]]) == ["c", "a"]
    assert adata.obs["site"].isna().sum() == 18


def test_a_table_of_other_cells_or_of_known_columns_is_refused() -> None:
    adata = draw_adata()
    before = adata.obs.copy()
    with pytest.raises(RegistrationError, match=r"such as 'cell0', in the first .* found none .*, but 'AAA-1'"):
        join_obs(adata, pd.DataFrame({"site": ["a"]}, index=["AAA-1"]))
    with pytest.raises(RegistrationError, match="found kind in both; leave them out"):
        join_obs(adata, pd.DataFrame({"site": ["a"], "kind": ["a"]}, index=["cell0"]))
    with pytest.raises(RegistrationError, match="found kind in both"):
        join_obs(draw_mudata(), pd.DataFrame({"kind": ["a"]}, index=["cell0"]))
    pd.testing.assert_frame_equal(adata.obs, before)


def test_a_mudata_gets_them_as_a_whole() -> None:
    mdata = draw_mudata()
    join_obs(mdata, pd.DataFrame({"site": list(map(str, range(20)))}, index=[f"cell{i}" for i in range(20)]))
    assert dict(mdata.obs["site"]) == {f"cell{i}": str(i) for i in range(20)}
