"""The names of a saved model's reference, in the order that its weights have."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reference.saves import altered, save_named

from totalanvi.training import CheckpointError
from totalanvi.training.registration.registry import Registry
from totalanvi.training.scvi_import.inert import read_inert
from totalanvi.training.scvi_import.names import registry_of
from totalanvi.training.scvi_import.saves import read_save

PROTEINS = ("CD1", "CD2", "CD3", "CD4", "CD5", "CD6")


def registry(name: str, version: str = "1.5.1") -> Registry:
    return registry_of(read_save(save_named(name, version).folder))


def changed(name: str, folder: Path, **states: dict[str, Any]) -> Registry:
    """The registry of a save with another ``state_registry`` of some fields."""
    fields = copy.deepcopy(read_inert(save_named(name).folder / "model.pt")["attr_dict"]["registry_"])
    for field, state in states.items():
        fields["field_registries"][field]["state_registry"] |= state
    return registry_of(read_save(altered(save_named(name), folder, registry_=fields)))


def test_names_are_those_of_the_data() -> None:
    found = registry("totalanvi")
    assert found.genes == tuple(f"GENE{i}" for i in range(25))
    assert found.proteins == PROTEINS
    assert found.batches == found.panels == ("run_1", "run_2")
    assert not found.has_missing_proteins
    assert not found.has_size_factor
    assert found.setup["kind"] == "anndata"
    assert found.setup["proteins"] == "protein"
    assert found.setup["batch_key"] == "batch"


def test_the_last_label_takes_the_place_of_the_unlabelled_category() -> None:
    found = registry("totalanvi")
    assert found.labels == ("T", "B", "Monocyte")
    assert found.unlabeled == ("Ambiguous",)


def test_totalvi_has_no_labels() -> None:
    assert registry("totalvi").labels == ()


def test_codes_of_a_categorical_column_keep_its_order() -> None:
    assert registry("totalvi_both_norms").batches == ("run_2", "run_1")


def test_without_a_batch_there_is_one() -> None:
    found = registry("totalvi_covariates")
    assert found.batches == ("0",)
    assert found.setup["batch_key"] is None


def test_covariates_are_named_with_their_categories() -> None:
    for version in ("1.3.3", "1.5.1"):
        found = registry("totalvi_covariates", version)
        assert found.categorical_covariates == (
            ("sex", ("f", "m")),
            ("site", ("one",)),
            ("donor", ("0", "1", "2")),
        )
        assert found.continuous_covariates == ("age", "stress")


def test_a_size_factor_is_known() -> None:
    found = registry("totalvi_size_factor")
    assert found.has_size_factor
    assert found.setup["size_factor_key"] == "size"


def test_proteins_that_a_panel_lacks_are_missing_there() -> None:
    found = registry("totalvi_panels")
    assert found.panels == ("long", "short")
    assert found.panel_proteins == ((True,) * 6, (True,) * 4 + (False,) * 2)
    # Which batch had which panel, the save does not tell.
    assert found.batch_proteins == ((True,) * 6, (True,) * 6)


def test_proteins_that_a_batch_lacks_are_missing_there_unless_overridden() -> None:
    found = registry("totalvi_missing")
    assert found.batch_proteins == found.panel_proteins == ((True,) * 6, (False,) * 2 + (True,) * 4)
    assert not registry("totalvi_overridden").has_missing_proteins


def test_a_mudata_keeps_its_modalities() -> None:
    for name, version in (("totalanvi_mudata", "1.5.1"), ("totalvi_mudata", "1.1.6")):
        found = registry(name, version)
        assert found.proteins == PROTEINS
        assert found.setup["kind"] == "mudata"
        assert (found.setup["rna"], found.setup["proteins"]) == ("rna", "prot")
        assert found.setup["modalities"]["batch_key"] == "rna"
        assert not {"rna_layer", "protein_layer"} & found.setup["modalities"].keys()


def test_proteins_that_were_only_counted_are_named_as_ours(tmp_path: Path) -> None:
    found = changed("totalanvi", tmp_path, proteins={"column_names": np.arange(6)})
    assert found.proteins == tuple(f"protein_{i}" for i in range(6))


def test_whole_numbers_are_named_alike_as_integers_and_as_floats(tmp_path: Path) -> None:
    found = changed("totalanvi", tmp_path, batch={"categorical_mapping": np.array([1.0, 2.0])})
    assert found.batches == ("1", "2")


def test_fewer_than_two_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Expected a model that tells two labels or more apart, found B; give"):
        changed("totalanvi", tmp_path, labels={"categorical_mapping": np.array(["B", "Ambiguous"], dtype=object)})


def test_a_registry_without_a_part_is_refused(tmp_path: Path) -> None:
    fields = copy.deepcopy(read_inert(save_named("totalanvi").folder / "model.pt")["attr_dict"]["registry_"])
    del fields["field_registries"]["proteins"]
    save = read_save(altered(save_named("totalanvi"), tmp_path, registry_=fields))
    with pytest.raises(CheckpointError, match=r"nothing registered of 'proteins'.*save it anew"):
        registry_of(save)
