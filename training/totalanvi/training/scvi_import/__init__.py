"""Coming from scvi-tools: a model that it saved becomes one of ours, without scvi-tools.

::

    saves      SAVED_DIR/model.pt → plain values (through `inert`, which runs nothing of the file)
    names      its registry → our `Registry`
    options    its arguments → our `ModelConfig`
    weights    its weights → ours
    reference  the data it was trained on → cells that travel with the checkpoint
    checkpoint all of it → our `Checkpoint`
"""

from __future__ import annotations

from totalanvi.training.scvi_import.checkpoint import import_scvi, scvi_checkpoint
from totalanvi.training.scvi_import.reference import data_beside

__all__ = ["data_beside", "import_scvi", "scvi_checkpoint"]
