"""Where a model goes: the accelerator and device that Lightning's users name, as a torch device."""

from __future__ import annotations

import torch

from totalanvi.training.checks import as_choice, as_whole
from totalanvi.training.errors import ArgumentError

__all__ = ["chosen_device"]

_ACCELERATORS = {"auto": "auto", "cpu": "cpu", "gpu": "cuda", "cuda": "cuda", "mps": "mps"}


def chosen_device(accelerator: str = "auto", device: int | str | torch.device = "auto") -> torch.device:
    """Device that ``accelerator`` and ``device`` mean.

    Parameters
    ----------
    accelerator
        ``"auto"``, ``"cpu"``, ``"gpu"`` (or ``"cuda"``) or ``"mps"``.
    device
        Which of them, by number; ``"auto"`` for the first; or one of torch's, by name (``"cuda:1"``) or itself.

    Returns
    -------
    torch.device
        With ``"auto"`` for both, the first CUDA device where there is one, and else the CPU.

    Raises
    ------
    ArgumentError
        When there is no such device here.

    Examples
    --------
    >>> chosen_device("cpu")
    device(type='cpu')
    """
    kind = _ACCELERATORS[as_choice("accelerator", accelerator, _ACCELERATORS)]
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "auto":
        device = 0
    try:
        if isinstance(device, str | torch.device):
            chosen = torch.device(device)
        else:
            number = as_whole("device", device, 0)
            # A CPU has one device, whatever number it is given.
            chosen = torch.device(kind, 0 if kind == "cpu" else number)
    except (ArgumentError, RuntimeError) as error:
        raise ArgumentError(
            f"device: expected 'auto', a number, or a name such as 'cpu' or 'cuda:0', found {device!r}; give one."
        ) from error
    n_there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    # Torch counts devices in eight bits: number 128 has become -128.
    if not 0 <= (chosen.index or 0) < n_there.get(chosen.type, 0):
        raise ArgumentError(f"device: expected one that is here, found {chosen}, which is not; use 'cpu', or 'auto'.")
    return torch.device("cpu") if chosen.type == "cpu" else chosen
