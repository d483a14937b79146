"""ONNX Runtime sessions that are what they are said to be: the right graph, on the device that was asked for."""

from __future__ import annotations

import ctypes
import logging
import sys
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any, Literal, get_args

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.graphs import (
    DEVICE_GRAPHS,
    ENCODER,
    ENCODER_REST,
    READOUT,
    READOUT_REST,
    GraphSignature,
    complete_graphs,
    device_graphs,
    label_graphs,
)
from totalanvi.serving.engine.widths import widths_of
from totalanvi.serving.errors import BundleError, ServingError

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Device", "Provider", "Sessions", "open_sessions"]

Provider = Literal["auto", "cpu", "cuda"]
Device = Literal["cpu", "cuda"]
Sessions = dict[str, "onnxruntime.InferenceSession"]
"""By the file of the graph."""

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"

_NUMBERS = {"float": "float32", "int32": "int32"}
"""What types are called, by ONNX Runtime's name for them."""

_log = logging.getLogger(__name__)


def open_sessions(
    bundle: Bundle, provider: Provider, threads: int, *, after_first_layers: bool = False
) -> tuple[Sessions, Device]:
    """Open the graphs of a bundle. On the CPU each computes with one thread: whoever runs it computes in several.

    Parameters
    ----------
    bundle
        The verified bundle.
    provider
        ``"cuda"`` or ``"cpu"``, or ``"auto"`` for CUDA where it really serves and CPU elsewhere.
    threads
        With how many it does, to say so.
    after_first_layers
        Whether, on the CPU, encoder and readout are the graphs of what comes after their first layers.

    Returns
    -------
    Sessions by the graph's file, and the device that all of them are served by.

    Raises
    ------
    ServingError
        When `provider` is unknown, or CUDA was asked for and does not serve.
    BundleError
        When a graph cannot be loaded, or its inputs and outputs are not those of its signature.
    """
    if provider not in get_args(Provider):
        raise ServingError(f"provider: expected one of {', '.join(get_args(Provider))}, found {provider!r}.")
    if provider != "cpu":
        sessions, reason = _open_on_cuda(bundle)
        if reason is None:
            return sessions, "cuda"
        if provider == "cuda":
            raise ServingError(
                f"provider 'cuda': expected a CUDA device to serve {bundle.manifest.name!r}, found that {reason}; "
                "install what is missing, or choose 'auto' or 'cpu'."
            )
        # A device that lies idle is worth a warning; a machine without one is as it should be.
        level = logging.WARNING if _count_cuda_devices() else logging.INFO
        _log.log(level, "Computing on the CPU with %d threads, because %s.", threads, reason)
    graphs = _graphs(bundle)
    if after_first_layers:
        rest = {ENCODER: ENCODER_REST, READOUT: READOUT_REST}
        graphs = [rest.get(graph, graph) for graph in graphs if graph not in DEVICE_GRAPHS]
        labels_alone = label_graphs(readout=bundle.readout is not None)
        graphs += [graph for graph in labels_alone if graph.file in bundle.manifest.files]
    return {graph.file: _open(bundle, graph, [_CPU]) for graph in graphs}, "cpu"


def _open_on_cuda(bundle: Bundle) -> tuple[Sessions, str | None]:
    """Open all graphs on CUDA, or say why that is not possible."""
    import onnxruntime

    if _CUDA not in onnxruntime.get_available_providers():
        return {}, "this build of ONNX Runtime has no CUDA provider (onnxruntime-gpu has it)"
    # Asked first, since a session on a machine without a device writes errors of its own and serves from the CPU.
    if (n_devices := _count_cuda_devices()) == 0:
        return {}, "the driver shows no CUDA device"
    complaints = _preload_cuda()
    # TF32 keeps 10 bits of a product's mantissa: too few for parity with training.
    providers = [(_CUDA, {"use_tf32": "0"}), _CPU]
    sessions = {}
    for graph in _graphs(bundle):
        try:
            session = _open(bundle, graph, providers)
        except BundleError as error:
            return {}, f"a session on {n_devices} CUDA device(s) failed ({error.__cause__})"
        # ONNX Runtime falls back to the CPU in silence, for want of a library for instance.
        if session.get_providers()[0] != _CUDA:
            return {}, f"ONNX Runtime fell back to the CPU ({complaints or 'a CUDA or cuDNN library does not fit'})"
        sessions[graph.file] = session
    return sessions, None


def _preload_cuda() -> str:
    """Load the CUDA libraries that were installed as packages, and return what ONNX Runtime prints about them.

    Its words belong into the reason for a fall-back, not on standard output among results.
    """
    import onnxruntime

    with redirect_stdout(StringIO()) as printed:
        onnxruntime.preload_dlls()
    return " ".join(printed.getvalue().split())


def _open(bundle: Bundle, graph: GraphSignature, providers: list[Any]) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    content = bundle.read(graph.file)
    try:
        # From bytes rather than a path: they are the ones verified, and cannot draw in other files as external data.
        session = onnxruntime.InferenceSession(content, options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's own exceptions have no common base but this one
        raise BundleError(
            f"{bundle.path}: {graph.file} cannot be loaded by ONNX Runtime {onnxruntime.__version__} ({error}); "
            "export again."
        ) from error
    _verify_interface(bundle, graph, session)
    return session


def _verify_interface(bundle: Bundle, graph: GraphSignature, session: onnxruntime.InferenceSession) -> None:
    widths = widths_of(bundle)
    for kind, nodes, names in (
        ("inputs", session.get_inputs(), graph.inputs),
        ("outputs", session.get_outputs(), graph.outputs),
    ):
        found = tuple(node.name for node in nodes)
        if found != names:
            raise BundleError(
                f"{bundle.path}: {graph.file}: expected the {kind} {list(names)}, found {list(found)}; export again."
            )
        for node in nodes:
            # A dimension without a fixed size is a name or None; ONNX Runtime checks it when it computes.
            width = node.shape[-1] if node.shape else None
            number = "int32" if node.name == "places" else "float"
            columns = widths[node.name]
            if node.type != f"tensor({number})" or (isinstance(width, int) and width != columns):
                raise BundleError(
                    f"{bundle.path}: {graph.file}: expected {node.name!r} to be {_NUMBERS[number]} with {columns} "
                    f"columns, found {node.type} of shape {node.shape}; export again."
                )


def _graphs(bundle: Bundle) -> list[GraphSignature]:
    readout = bundle.readout is not None
    on_device = (graph for graph in device_graphs(readout=readout) if graph.file in bundle.manifest.files)
    return [*complete_graphs(readout=readout), *on_device]


def _count_cuda_devices() -> int:
    """Ask the driver itself; 0 where there is none."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
            return 0
        return count.value
    except (OSError, AttributeError):
        return 0
