"""HDF5 files may point at other files; whoever opens one reads, with their own rights, whatever its author named.

Links into other files, data kept in other files and virtual data sets are refused before data is read: AnnData and
MuData need none of them.
"""

from __future__ import annotations

from pathlib import Path

import h5py
from h5py import h5d, h5g, h5l, h5o

from totalanvi.training.errors import RegistrationError

__all__ = ["require_self_contained"]


def require_self_contained(path: Path) -> None:
    """Walk all objects of a file, and refuse it when one reaches outside.

    Raises
    ------
    RegistrationError
        Naming the first external link, external storage or virtual data set.
    """
    with h5py.File(path) as file:
        seen: set[tuple[int, int]] = set()
        pending: list[tuple[str, h5g.GroupID]] = [("", file["/"].id)]
        while pending:
            parent, group = pending.pop()
            for raw_name in group:
                name = f"{parent}/{raw_name.decode(errors='replace')}"
                kind = group.links.get_info(raw_name).type
                if kind == h5l.TYPE_SOFT:  # leads to another path of this file
                    continue
                child = None if kind != h5l.TYPE_HARD else h5o.open(group, raw_name)
                if child is None or (isinstance(child, h5d.DatasetID) and _reaches_outside(child)):
                    raise RegistrationError(
                        f"Expected {path} to hold all of its data itself, found that {name!r} leads into another file; "
                        "write it again as one plain file (adata.write_h5ad, mdata.write_h5mu)."
                    )
                if isinstance(child, h5g.GroupID):
                    info = h5o.get_info(child)
                    if (info.fileno, info.addr) not in seen:  # hard links may form a cycle
                        seen.add((info.fileno, info.addr))
                        pending.append((name, child))


def _reaches_outside(dataset: h5d.DatasetID) -> bool:
    properties = dataset.get_create_plist()
    return bool(properties.get_layout() == h5d.VIRTUAL or properties.get_external_count() > 0)
