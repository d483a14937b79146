"""Antibodies that measure no protein of the cell: isotype controls, and hashtags that tell samples apart."""

from __future__ import annotations

import re
from typing import Literal, get_args

__all__ = ["CONTROLS", "Control", "control"]

Control = Literal["isotype control", "hashtag"]

CONTROLS: tuple[Control, ...] = get_args(Control)

_HOST = r"(?:mouse|rat|hamster|armenian|syrian|goat|rabbit|ms|rt|m|r)"
_ISOTYPE = re.compile(
    rf"isotype|\bmopc\W?\d|\brtk\d{{4}}|\bhtk\d{{3}}|^(?:{_HOST}\W*)*ig[gam]\d[a-c]?(?![a-z\d])|^(?:{_HOST}\W*)+ig[gam]\b"
    r"|^ig[gam]\W*(?:ctrl|control)"
)
_HASHTAG = re.compile(r"hash\W?tag|^hto(?![a-z]{2})|\bhto$|^cmo\W?\d{3}|sample\W?tag|multi\W?seq")


def control(name: str) -> Control | None:
    """Tell whether a name is that of an isotype control or a hashtag.

    Parameters
    ----------
    name
        Undecorated.

    Examples
    --------
    >>> [control(name) for name in ("IgG2a_control", "Mouse IgG1", "HTO_3", "Hashtag-1", "IgD", "IgM", "CD3")]
    ['isotype control', 'isotype control', 'hashtag', 'hashtag', None, None, None]
    """
    plain = name.casefold().replace("_", " ")
    if _HASHTAG.search(plain):
        return "hashtag"
    return "isotype control" if _ISOTYPE.search(plain) else None
