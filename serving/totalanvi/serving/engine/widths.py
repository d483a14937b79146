"""How wide everything is that the graphs of a bundle take and give."""

from __future__ import annotations

from collections.abc import Mapping

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.graphs import N_NEAREST

__all__ = ["widths_of"]


def widths_of(bundle: Bundle) -> Mapping[str, int]:
    """Return the last dimension of each input and output, by name; of one by one, 1, and of any size, 0.

    One table is enough for all graphs: a name is the same thing in each of them.

    Parameters
    ----------
    bundle
        With its arrays in place.
    """
    manifest, layers, readout = bundle.manifest, bundle.first_layers, bundle.readout
    n_labels = len(manifest.labels)
    n_components, n_columns = (0, 0) if readout is None else (readout.n_components, readout.n_columns)
    n_projected = 0 if layers.readout is None else layers.readout.weight.shape[1]
    by_width = [
        (len(manifest.genes.names), ["rna", "present"]),
        (1, ["library", "places", "counts", "evidence", "least"]),
        (len(manifest.batches), ["batch"]),
        (manifest.n_latent, ["z_mean", "z_scale", "noise", "latent", "landmarks"]),
        (n_labels, ["logits", "log_probabilities", "log_ratios"]),
        (n_components, ["components"]),
        (n_components * n_labels, ["whitening", "centres"]),
        (n_columns, ["fill"]),
        (n_projected, ["projected"]),
        (layers.encoder.weight.shape[1], ["from_rna"]),
        (min(N_NEAREST, len(bundle.reference.latent)), ["nearest"]),
        (len(manifest.proteins), _OF_PROTEINS),
        (0, ["shares", "bounds"]),
    ]
    return {name: width for width, names in by_width for name in names}


_OF_PROTEINS = [
    *("protein", "measured", "panel"),
    *("denoised", "expected", "foreground", "low", "high"),
    *("total", "decoded", "weight", "sum"),
    *("standardised", "centre", "spread", "smear", "of_batch"),
    *("of_readout", "decoded_denoised", "decoded_expected", "first_share", "first_bound"),
]
"""What has a column for each protein."""
