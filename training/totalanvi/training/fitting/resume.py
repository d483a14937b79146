"""Lightning's own checkpoints without pickle: tensors as safetensors, everything around them as JSON in the same file.

They hold optimiser, schedule, callbacks and random state: what a run needs to continue where it was interrupted. What
is kept for good is the model's checkpoint (see `checkpoint`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from totalanvi.training.errors import CheckpointError

__all__ = ["SafeCheckpointIO"]

_STATE = "state"


class SafeCheckpointIO(CheckpointIO):
    """Reads and writes Lightning's checkpoints as one safetensors file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to a temporary name, then rename: an interrupted write leaves the last checkpoint whole."""
        tensors: dict[str, Tensor] = {}
        state = json.dumps(_encode(checkpoint, tensors))
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        save_file(tensors, temporary, metadata={_STATE: state})
        temporary.replace(target)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read what `save_checkpoint` wrote.

        Raises
        ------
        CheckpointError
            When the file is not one of those.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                decoded = _decode(json.loads(file.metadata()[_STATE]), tensors)
                if not isinstance(decoded, dict):
                    raise TypeError("no state in it")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"Expected an interrupted run at {path}, found one that cannot be read ({error}); start without "
                "resuming."
            ) from error
        return decoded

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint that is no longer needed."""
        Path(path).unlink(missing_ok=True)


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # A fused optimiser takes for granted that its state lies in memory as the weight does.
        across = value.dim() == 2 and value.t().is_contiguous() and not value.is_contiguous()
        tensors[name] = (value.t() if across else value).detach().cpu().clone().contiguous()
        return {"transposed" if across else "tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_encode(key, tensors), _encode(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_encode(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(
        f"Expected a training state of tensors and plain values, found a {type(value).__name__} in it; "
        "leave out what keeps it there (a callback, for one), or train without resume_folder."
    )


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "transposed":
        return tensors[content].t()  # a RuntimeError unless it is a matrix
    if kind == "dict":
        return {_decode(key, tensors): _decode(item, tensors) for key, item in content}
    items = [_decode(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
