"""The table of parents that export reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from totalanvi.export.errors import ParentsError
from totalanvi.export.parents import read_parents

LABELS = ["CD4 T", "CD8 T", "B", "unknown"]


def read(folder: Path, text: str) -> dict[str, str]:
    (folder / "parents.csv").write_text(text, encoding="utf-8")
    return read_parents(folder / "parents.csv", LABELS)


def test_levels_blanks_and_repetitions(tmp_path: Path) -> None:
    text = '\ufefflabel,parent\n\nCD4 T, T cell\n"CD8 T",T cell\nT cell,lymphocyte\nT cell,lymphocyte\nunknown,rest\n'
    assert read(tmp_path, text) == {
        "CD4 T": "T cell",
        "CD8 T": "T cell",
        "T cell": "lymphocyte",
        # By the name that it is served under.
        "unknown (reference)": "rest",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns label,parent, and both in each row; found nothing"),
        ("child,parent\nB,x\n", "columns label,parent"),
        ("label,parent\nB\n", "both in each row"),
        ("label,parent\nB,\n", "line 2: expected a label and its parent"),
        ("label,parent\nB,unknown\n", "which is not called 'unknown'"),
        ("label,parent\nB,x\nB,y\n", "line 3: expected one parent for 'B', found 'x' and 'y'"),
        ("label,parent\nNK,x\n", "found 'NK', which is neither. The labels are 'CD4 T', 'CD8 T'"),
        ("label,parent\nB,x\nx,B\n", "found a circle: B → x → B"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ParentsError, match="(?s)" + message):
        read(tmp_path, text)


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(ParentsError, match=r"label,parent, found no such file; check the path\.$"):
        read_parents(tmp_path / "none.csv", LABELS)
    (tmp_path / "binary.csv").write_bytes(bytes(range(128, 256)))
    with pytest.raises(ParentsError, match="cannot be read"):
        read_parents(tmp_path / "binary.csv", LABELS)
