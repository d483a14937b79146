"""On which devices, in how many processes, a model trains: the arguments of Lightning's users, checked."""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

from totalanvi.training.checks import as_whole, require_type
from totalanvi.training.errors import ArgumentError

__all__ = ["placement"]

_TOGETHER = ("ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")
_STARTED_BY_OTHERS = ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "LOCAL_RANK")
"""What is in the environment where torchrun, srun or a user starts every process."""
_MEETING_PLACE = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")


def placement(accelerator: Any, devices: Any, num_nodes: Any, strategy: Any) -> dict[str, Any]:
    """Arguments of Lightning's trainer that place a run.

    Parameters
    ----------
    accelerator, devices, num_nodes
        As Lightning takes them; ``"auto"`` devices are one.
    strategy
        ``"auto"``, ``"ddp"``, or Lightning's ``DDPStrategy``.

    Raises
    ------
    ArgumentError
        For devices that are not here, machines that could not find each other, a strategy under which the model would
        not be whole in each process, and several devices where this program cannot be started again.

    Examples
    --------
    >>> placement("cpu", 1, 1, "auto")["strategy"]
    'auto'
    """
    num_nodes = as_whole("num_nodes", num_nodes, 1)
    devices = 1 if isinstance(devices, str) and devices == "auto" else devices
    _require_devices(accelerator, devices)
    several = num_nodes > 1 or _several(devices)
    if num_nodes > 1:
        _require_meeting_place(num_nodes)
    chosen = _strategy(strategy, several)
    if several and not any(name in os.environ for name in _STARTED_BY_OTHERS):
        _require_script()
    return {"accelerator": accelerator, "devices": devices, "num_nodes": num_nodes, "strategy": chosen}


def _require_devices(accelerator: Any, devices: Any) -> None:
    """Refuse no device, and more than there are; what else Lightning does not take, it says itself."""
    if isinstance(devices, bool) or not isinstance(devices, int) or devices == -1:
        return
    as_whole("devices", devices, 1)
    n_there = torch.cuda.device_count()
    if accelerator in ("auto", "gpu", "cuda") and 0 < n_there < devices:
        raise ArgumentError(
            f"devices: expected {n_there} at most, the GPUs that are here, found {devices}; ask for fewer, or for "
            "processes on the CPU (accelerator='cpu', --device cpu)."
        )


def _several(devices: Any) -> bool:
    if isinstance(devices, str):
        return "," in devices.strip(",") or (devices.strip().lstrip("-").isdigit() and _several(int(devices)))
    if isinstance(devices, list | tuple):
        return len(devices) > 1
    return isinstance(devices, int) and (devices > 1 or (devices == -1 and torch.cuda.device_count() > 1))


def _strategy(strategy: Any, several: bool) -> str | Strategy:
    require_type("strategy", strategy, (str, Strategy), "give 'auto' or 'ddp'")
    if isinstance(strategy, SingleDeviceStrategy) and not several:
        return strategy
    if isinstance(strategy, DDPStrategy) and strategy._start_method == "popen":
        return strategy
    if strategy in ("auto", *_TOGETHER):
        return "ddp" if several else "auto"  # whichever `ddp`: `gradients` averages those of any parameters
    found = repr(strategy) if isinstance(strategy, str) else type(strategy).__name__
    raise ArgumentError(
        f"strategy: expected 'auto' or 'ddp', which keep a whole model in each of the processes that this program is "
        f"started in, found {found}; choose one of these."
    )


def _require_meeting_place(num_nodes: int) -> None:
    missing = [name for name in _MEETING_PLACE if name not in os.environ]
    if missing and not any(name in os.environ for name in _STARTED_BY_OTHERS[:2]):
        raise ArgumentError(
            f"num_nodes: expected the environment of each of {num_nodes} machines to say where they meet "
            f"({', '.join(_MEETING_PLACE)}), found no {', '.join(missing)}; set them, or start with torchrun or srun."
        )


def _require_script() -> None:
    """Refuse several devices where the other processes could not be started as this one was."""
    interactive = hasattr(sys, "ps1") or bool(sys.flags.interactive)
    if interactive or sys.argv[:1] in ([], [""], ["-"]) or multiprocessing.parent_process() is not None:
        raise ArgumentError(
            "devices: expected a script or a command, which each process of a run on several devices starts anew, "
            "found a notebook, an interactive session or a process of multiprocessing; train on one device here, or "
            "write a script."
        )
