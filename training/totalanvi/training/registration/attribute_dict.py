"""A dictionary whose values are attributes too, as scripts written for scvi-tools read them."""

from __future__ import annotations

from typing import Any

__all__ = ["AttributeDict"]


class AttributeDict(dict[str, Any]):
    """A dictionary with ``values.name`` for ``values["name"]``.

    Examples
    --------
    >>> AttributeDict(n_genes=100).n_genes
    100
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"Expected one of {', '.join(self)}, found {name!r}; ask for one of them.") from None

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        """Whether ``other`` has the same items; scvi-tools' own ``attrdict``, which is no `dict`, may have them too."""
        items = getattr(other, "items", None)
        return callable(items) and dict(self.items()) == dict(items())
