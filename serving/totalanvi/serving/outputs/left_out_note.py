"""What users should know of parts of a query that an annotated copy cannot hold."""

from __future__ import annotations

from totalanvi.serving.outputs.output import OutputPlan
from totalanvi.serving.queries.source import QuerySource

__all__ = ["left_out_messages"]


def left_out_messages(plan: OutputPlan, source: QuerySource) -> list[str]:
    """Say which modalities an output leaves out, where it does.

    Parameters
    ----------
    plan
        The output.
    source
        The query.

    Examples
    --------
    >>> left_out_messages(plan, source)  # doctest: +SKIP
    ["Left out of 'out.h5ad', which holds one modality, 'rna': 'prot' (the measured proteins). Write 'out.h5mu' ..."]
    """
    if plan.format != "h5ad" or not source.beside:
        return []
    read = {source.protein_place: " (the measured proteins)"}
    left_out = ", ".join(f"{name!r}{read.get(f'modality {name!r}', '')}" for name in source.beside)
    return [
        f"Left out of {plan.path.name!r}, which holds one modality, {source.rna_modality!r}: {left_out}. Write "
        f"{plan.path.with_suffix('.h5mu').name!r} to keep all of them."
    ]
