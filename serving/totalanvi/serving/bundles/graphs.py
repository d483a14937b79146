"""The graphs of a bundle: which there are, and what each takes and gives.

An input or output is the same thing wherever its name occurs. These names, and those of files, are in bundles that
exist, and stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ADD_WEIGHTED",
    "BOUNDS",
    "CLASSIFIER",
    "DENSITY",
    "DEVICE_GRAPHS",
    "ENCODER",
    "ENCODER_PANEL",
    "ENCODER_REST",
    "ENCODER_RNA",
    "NEAREST",
    "N_NEAREST",
    "PROTEINS",
    "READOUT",
    "READOUT_COUNTS",
    "READOUT_IMPUTED",
    "READOUT_LABELS",
    "READOUT_PANEL",
    "READOUT_REST",
    "READOUT_RNA",
    "ROWS",
    "GraphSignature",
    "complete_graphs",
    "device_graphs",
    "label_graphs",
]


@dataclass(frozen=True)
class GraphSignature:
    """One ONNX graph of the bundle: its file and the names of its inputs and outputs, in order."""

    file: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


ENCODER = GraphSignature(
    file="encoder.onnx",
    inputs=("rna", "library", "protein", "measured", "batch"),
    outputs=("z_mean", "z_scale", "latent"),
)
"""All float32. ``rna`` counts (cells, genes); ``library`` (cells, 1), the cell's total count over the model's genes,
divided by the gene coverage of the query; ``protein`` counts (cells, proteins), 0 where not measured; ``measured``
(cells, proteins), 1 or 0; ``batch`` (cells, batches), one-hot, all zero for a batch the reference has not seen.
``z_mean`` and ``z_scale`` (cells, latent) are the Gaussian posterior; ``latent`` (cells, latent) is its mean after the
latent transformation."""

CLASSIFIER = GraphSignature(file="classifier.onnx", inputs=("latent",), outputs=("logits",))
"""``latent`` (cells, latent) → ``logits`` (cells, labels), before any temperature."""

PROTEINS = GraphSignature(
    file="proteins.onnx",
    inputs=("z_mean", "z_scale", "noise", "batch"),
    outputs=("denoised", "expected", "foreground"),
)
"""``noise`` (samples, latent) standard normal draws shared by all cells (one row of zeros: the plug-in estimate);
``batch`` (1, batches) one-hot, the reference batch to decode as. Each output (cells, proteins) is a mean over samples:
``denoised`` without background, ``expected`` with it, ``foreground`` the foreground probability."""


READOUT = GraphSignature(
    file="readout.onnx",
    inputs=("rna", "library", "protein", "measured", "present", "fill"),
    outputs=("log_probabilities", "standardised", "components", "evidence"),
)
"""A graph that a bundle may have: labels and proteins straight from counts. ``present`` (1, genes) is 1 for the genes
that the query has, else 0; ``fill`` (components, columns) is what `totalanvi.serving.engine.missing_genes` makes of
them; the other inputs are the encoder's. ``log_probabilities`` (cells, labels), before any
temperature; ``standardised`` (cells, proteins), log counts within a batch; ``components`` (cells, components) of the
RNA; ``evidence`` (cells, 1), small where RNA speaks for no label. `totalanvi.serving.bundles.readout_arrays` says what
they are in counts."""

ENCODER_REST = GraphSignature(
    file="encoder_rest.onnx",
    inputs=("from_rna", "library", "protein", "measured", "batch"),
    outputs=ENCODER.outputs,
)
"""The encoder after its first layer's map of RNA. ``from_rna`` (cells, hidden) is what
`totalanvi.serving.bundles.first_layer.EncoderFirst` makes of counts."""

READOUT_REST = GraphSignature(
    file="readout_rest.onnx", inputs=("projected", "protein", "measured"), outputs=READOUT.outputs
)
"""The readout after its projection, in a bundle that has one. ``projected`` (cells, columns) is
what `totalanvi.serving.bundles.first_layer.ReadoutFirst` makes of counts."""

READOUT_LABELS = GraphSignature(
    file="readout_labels.onnx",
    inputs=READOUT_REST.inputs,
    outputs=tuple(name for name in READOUT.outputs if name != "standardised"),
)
"""`READOUT_REST` without proteins, for queries that ask for labels alone. For a bundle from before it, which has none,
proteins are computed all the same."""

ENCODER_PANEL = GraphSignature(file="encoder_panel.onnx", inputs=("from_rna", "protein", "panel"), outputs=("latent",))
"""`ENCODER_REST` for queries that ask for labels alone, and whose cells have one panel, and a batch that the reference
has not seen. ``panel`` (1, proteins) is 1 for the proteins that were measured, else 0."""

READOUT_PANEL = GraphSignature(
    file="readout_panel.onnx", inputs=("projected", "protein", "panel"), outputs=READOUT_LABELS.outputs
)
"""`READOUT_LABELS` for such queries. A bundle from before these two, which has neither, looks at each cell's panel."""

ENCODER_RNA = GraphSignature(file="encoder_rna.onnx", inputs=("from_rna",), outputs=ENCODER_PANEL.outputs)
"""`ENCODER_PANEL` for queries without proteins: they are not multiplied by zeros."""

READOUT_RNA = GraphSignature(file="readout_rna.onnx", inputs=("projected",), outputs=READOUT_LABELS.outputs)
"""`READOUT_PANEL` for such queries. A bundle from before these two, which has neither, multiplies zeros."""

ROWS = GraphSignature(file="rows.onnx", inputs=("places", "counts", "library"), outputs=("rna",))
"""Makes rows whole where the other graphs compute, so that a device is sent what is stored and no zeros. ``places``
(stored counts,), int32, each once, is ``row * genes + gene``; ``counts`` (stored counts,); ``library`` (cells, 1) tells
how many rows there are. ``rna`` (cells, genes) is the encoder's. A bundle from before it has none; its rows are made
whole before they are sent."""

NEAREST = GraphSignature(file="nearest.onnx", inputs=("latent", "landmarks"), outputs=("nearest",))
"""Finds landmarks where the other graphs compute. ``latent`` (cells, latent) is the encoder's, ``landmarks``
(landmarks, latent) those of the reference. ``nearest`` (cells, found), whole numbers in float32, is which of them are
nearest, in any order, some more of them than place a cell: what is nearest is measured again."""

N_NEAREST = 20
"""How many `NEAREST` finds, or all there are."""

DENSITY = GraphSignature(
    file="density.onnx", inputs=("components", "whitening", "centres", "log_ratios"), outputs=("least",)
)
"""Says how far cells without proteins lie from the label that they are nearest to, where the other graphs compute, in a
bundle with a readout. ``components`` (cells, components) are the readout's; a label's columns in ``whitening``
(components, labels * components) make them independent, ``centres`` (1, labels * components) is where its own mean then
lies, ``log_ratios`` (1, labels) what is added to its squares. ``least`` (cells, 1) is the least of these sums."""

ADD_WEIGHTED = GraphSignature(file="average.onnx", inputs=("total", "decoded", "weight"), outputs=("sum",))
"""A step of an average: adds to ``total`` what was ``decoded`` as one batch, or from some of the samples, times its
``weight`` (1, proteins), where the decoder computes; (cells, proteins). What has no weight need not be finite.
``total`` may be (1, proteins), the same for all cells, as it is where nothing has been added yet."""

READOUT_COUNTS = GraphSignature(
    file="readout_counts.onnx", inputs=("standardised", "centre", "spread", "smear"), outputs=("of_batch",)
)
"""Turns a readout's ``standardised`` proteins into the counts of one batch, (cells, proteins), where it computes. The
other inputs, (1, proteins), are those of `totalanvi.serving.bundles.readout_arrays.ReadoutArrays`."""

READOUT_IMPUTED = GraphSignature(
    file="readout_imputed.onnx",
    inputs=(
        *("of_readout", "measured", "decoded_denoised", "decoded_expected"),
        *("first_share", "shares", "first_bound", "bounds"),
    ),
    outputs=("denoised", "expected", "low", "high"),
)
"""Puts the counts ``of_readout`` in the place of the decoder's for proteins that were not ``measured``, (cells,
proteins), and says between which counts they lie. ``shares`` (3, lines) and ``first_share`` (1, proteins) are a table
of straight lines, `totalanvi.serving.engine.curves.Curves.line_table`, of what share of a count is no background;
``bounds`` (5, lines) and ``first_bound`` that of a coverage's lower and upper bounds."""

BOUNDS = GraphSignature(file="bounds.onnx", inputs=("expected", "first_bound", "bounds"), outputs=("low", "high"))
"""Says the same of counts that are ``expected``, (cells, proteins), in a bundle without a readout."""

DEVICE_GRAPHS = (ROWS, NEAREST, ADD_WEIGHTED, BOUNDS, DENSITY, READOUT_COUNTS, READOUT_IMPUTED)
"""Graphs without weights, which only a device has a use for."""


def complete_graphs(*, readout: bool) -> tuple[GraphSignature, ...]:
    """Return the graphs that are enough to serve a bundle, from whole rows of counts: what a device computes.

    Examples
    --------
    >>> [graph.file for graph in complete_graphs(readout=False)]
    ['encoder.onnx', 'classifier.onnx', 'proteins.onnx']
    """
    of_module = (ENCODER, CLASSIFIER, PROTEINS)
    return (*of_module, READOUT) if readout else of_module


def device_graphs(*, readout: bool) -> tuple[GraphSignature, ...]:
    """Return those of `DEVICE_GRAPHS` that belong into a bundle; one from before some of them does without these.

    Examples
    --------
    >>> [graph.file for graph in device_graphs(readout=False)]
    ['rows.onnx', 'nearest.onnx', 'average.onnx', 'bounds.onnx']
    """
    others = (BOUNDS,) if readout else (DENSITY, READOUT_COUNTS, READOUT_IMPUTED)
    return tuple(graph for graph in DEVICE_GRAPHS if graph not in others)


def label_graphs(*, readout: bool) -> tuple[GraphSignature, ...]:
    """Return the graphs for labels alone, which a CPU has a use for; a bundle from before one does without.

    Examples
    --------
    >>> [graph.file for graph in label_graphs(readout=False)]
    ['encoder_panel.onnx', 'encoder_rna.onnx']
    """
    of_encoder = (ENCODER_PANEL, ENCODER_RNA)
    return (*of_encoder, READOUT_LABELS, READOUT_PANEL, READOUT_RNA) if readout else of_encoder
