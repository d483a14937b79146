"""Colours as people see them, those who lack one kind of cone as well."""

from __future__ import annotations

import numpy as np

__all__ = ["SIGHTS", "luminance", "seen_by"]

_SIGHT = {
    "all": np.eye(3),
    "protan": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    "deutan": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
    "tritan": np.array([[1.25553, -0.07675, -0.17878], [-0.07841, 0.93081, 0.1476], [0.00473, 0.69137, 0.3039]]),
}
"""What is left of red, green and blue light (Viénot 1999; Machado 2009)."""

SIGHTS = tuple(_SIGHT)


def luminance(colour: str) -> float:
    """Return how bright a colour is, from 0 to 1."""
    return float(_linear(colour) @ [0.2126, 0.7152, 0.0722])


def seen_by(colour: str, kind: str) -> np.ndarray:
    """Return a colour as who lacks one kind of cone sees it, in CIE Lab."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(_SIGHT[kind] @ _linear(colour), 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
