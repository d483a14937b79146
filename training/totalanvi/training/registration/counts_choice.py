"""Raw counts found in a file that may hold them in ``X``, in a layer, or in ``raw``."""

from __future__ import annotations

from anndata import AnnData

from totalanvi.formats.counts_place import Place, find_counts, named_place
from totalanvi.formats.errors import FormatError
from totalanvi.formats.layer_names import layer_names
from totalanvi.training.errors import CountsError, MissingKeyError, RegistrationError
from totalanvi.training.registration.stored_rows import is_stored
from totalanvi.training.registration.tables import found_layers

__all__ = ["with_counts"]


def with_counts(
    adata: AnnData, layer: str | None, modality: str | None = None, cure: str = "--layer NAME"
) -> tuple[AnnData, str | None]:
    """Find the raw counts, and bring them where ``setup_anndata`` and ``setup_mudata`` can be told of them.

    Parameters
    ----------
    adata
        What holds them; left as it is.
    layer
        A layer, ``"X"`` or ``"raw"``; `None` finds the only one of these that holds counts.
    modality
        Name of ``adata`` in a MuData, for messages.
    cure
        How to name one of the places.

    Returns
    -------
    adata, layer
        The same object, or one made of its ``raw``; and the layer of the counts, `None` for ``X``.

    Raises
    ------
    MissingKeyError
        When the named layer is not there.
    RegistrationError
        When there is no matrix at all.
    CountsError
        When there are several matrices and none of them, or more than one, holds counts.

    Examples
    --------
    >>> import numpy as np
    >>> adata = AnnData(np.log1p(np.eye(2)), layers={"counts": np.eye(2)})
    >>> with_counts(adata, None)[1]
    'counts'
    """
    matrices = {} if adata.X is None else {Place("X"): adata.X}
    matrices |= {Place("layer", name): adata.layers[name] for name in layer_names(adata)}
    if adata.raw is not None:
        matrices[Place("raw")] = adata.raw.X
    of = "" if modality is None else f" of modality {modality!r}"
    if not matrices:
        raise RegistrationError(f"Expected raw counts in X, a layer or raw{of}, found none of these; add them.")
    if layer is not None:
        named = named_place(layer, matrices)
        if named is None:
            raise MissingKeyError(
                f"Expected counts in {'' if modality is None else f'mod[{modality!r}].'}layers[{layer!r}], found "
                f"{found_layers(adata)}."
            )
        place = named
    else:
        try:
            place = find_counts(matrices, of, cure)
        except FormatError as error:
            raise CountsError(str(error)) from error
    if place.kind == "raw":
        if is_stored(adata.raw.X):
            return AnnData(adata.raw.X, obs=adata.obs, var=adata.raw.var, obsm=dict(adata.obsm)), None
        return adata.raw.to_adata(), None
    return adata, place.layer or None
