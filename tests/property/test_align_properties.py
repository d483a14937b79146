"""What alignment makes of a cell depends on that cell's counts by name, on nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from totalanvi.serving.alignment.align import Aligner
from totalanvi.serving.bundles.thresholds import Thresholds
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.queries.query import Query

N_GENES = 12
N_PROTEINS = 4
REFERENCE = ReferenceFeatures(
    genes=tuple(f"G{i}" for i in range(N_GENES)),
    proteins=tuple(f"P{i}" for i in range(N_PROTEINS)),
    labels=("a", "b"),
    gene_share=tuple(np.random.default_rng(2).dirichlet(np.ones(N_GENES)).tolist()),
    gene_weight=tuple(np.random.default_rng(3).dirichlet(np.ones(N_GENES)).tolist()),
    thresholds=Thresholds(gene_weight_warn=0, gene_weight_refuse=0),
)


@dataclass
class Table:
    """Counts by name: what a query says, in whatever order it says it."""

    cells: list[str]
    genes: list[str]
    rna: npt.NDArray[np.float32]
    proteins: list[str]
    protein: npt.NDArray[np.float32]

    def query(self) -> Query:
        return Query(
            cell_ids=pd.Index(self.cells),
            gene_names=tuple(self.genes),
            rna=sparse.csr_matrix(self.rna),
            rna_measured=np.ones(len(self.cells), dtype=bool),
            protein_names=tuple(self.proteins),
            proteins=self.protein,
            protein_measured=self.protein.any(axis=1),
        )

    def align(self) -> AlignedCells:
        return Aligner(REFERENCE, self.genes, self.proteins).align(self.query())


@st.composite
def tables(draw: st.DrawFn) -> Table:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    genes = draw(st.lists(st.integers(0, N_GENES + 4), min_size=1, max_size=10, unique=True).filter(_has_known))
    proteins = draw(st.lists(st.integers(0, N_PROTEINS + 2), max_size=5, unique=True))
    n_cells = draw(st.integers(1, 6))
    return Table(
        cells=[f"c{i}" for i in range(n_cells)],
        genes=[f"G{i}" for i in genes],
        rna=rng.poisson(draw(st.sampled_from([0.2, 2, 500])), (n_cells, len(genes))).astype(np.float32),
        proteins=[f"P{i}" for i in proteins],
        protein=rng.poisson(1, (n_cells, len(proteins))).astype(np.float32),
    )


def _has_known(genes: list[int]) -> bool:
    return any(gene < N_GENES for gene in genes)


def assert_identical(one: AlignedCells, other: AlignedCells) -> None:
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(one.rna, name), getattr(other.rna, name))
    for name in ("library", "protein", "measured"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@given(table=tables(), data=st.data())
def test_the_order_of_features_does_not_matter(table: Table, data: st.DataObject) -> None:
    genes = data.draw(st.permutations(range(len(table.genes))))
    proteins = data.draw(st.permutations(range(len(table.proteins))))
    permuted = Table(
        cells=table.cells,
        genes=[table.genes[i] for i in genes],
        rna=table.rna[:, genes],
        proteins=[table.proteins[i] for i in proteins],
        protein=table.protein[:, list(proteins)],
    )
    assert_identical(permuted.align(), table.align())


@given(table=tables(), n_extra=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
def test_genes_that_the_reference_lacks_do_not_matter(table: Table, n_extra: int, seed: int) -> None:
    extra = np.random.default_rng(seed).poisson(3, (len(table.cells), n_extra)).astype(np.float32)
    wider = Table(
        cells=table.cells,
        genes=[*(f"other{i}" for i in range(n_extra)), *table.genes],
        rna=np.hstack([extra, table.rna]),
        proteins=table.proteins,
        protein=table.protein,
    )
    assert_identical(wider.align(), table.align())


@given(table=tables(), data=st.data())
def test_the_other_cells_do_not_matter(table: Table, data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, len(table.cells) - 1), min_size=1, max_size=8)))
    aligner = Aligner(REFERENCE, table.genes, table.proteins)
    query = table.query()
    assert_identical(aligner.align(query.rows(rows)), aligner.align(query).rows(rows))


@given(table=tables(), data=st.data())
def test_counts_may_be_split_over_repeated_names(table: Table, data: st.DataObject) -> None:
    def split(names: list[str], counts: npt.NDArray[np.float32]) -> tuple[list[str], npt.NDArray[np.float32]]:
        places = data.draw(st.lists(st.integers(0, len(names) - 1), max_size=4)) if names else []
        part = np.floor(counts[:, places] / 2) / np.maximum(1, [places.count(place) for place in places])
        part = np.floor(part).astype(np.float32)
        rest = counts.copy()
        np.subtract.at(rest, (slice(None), places), part)
        return [*names, *(names[place] for place in places)], np.hstack([rest, part])

    genes, rna = split(table.genes, table.rna)
    proteins, protein = split(table.proteins, table.protein)
    assert_identical(Table(table.cells, genes, rna, proteins, protein).align(), table.align())


@given(table=tables(), data=st.data())
def test_the_way_a_gene_is_named_does_not_matter(table: Table, data: st.DataObject) -> None:
    ids = {f"G{i}": f"ENSG{i:011d}" for i in range(N_GENES)}
    reference = REFERENCE.model_copy(update={"ensembl_ids": tuple(ids.values())})

    def renamed(name: str) -> str:
        version = data.draw(st.sampled_from(["", ".1", ".12"]))
        return data.draw(st.sampled_from([name, name.lower(), ids.get(name, name) + version * (name in ids)]))

    query = table.query()
    other = Aligner(reference, [renamed(name) for name in table.genes], table.proteins).align(query)
    assert_identical(other, table.align())


@given(table=tables())
def test_every_count_keeps_its_name(table: Table) -> None:
    cells = table.align()
    known = pd.DataFrame(table.rna, columns=table.genes).reindex(columns=REFERENCE.genes, fill_value=0)
    np.testing.assert_array_equal(cells.rna.toarray(), known)
    coverage = sum(
        share for gene, share in zip(REFERENCE.genes, REFERENCE.gene_share, strict=True) if gene in table.genes
    )
    np.testing.assert_allclose(cells.library, known.sum(axis=1) / coverage, rtol=1e-6)
    assert cells.rna.has_canonical_format
