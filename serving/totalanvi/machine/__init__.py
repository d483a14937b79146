"""What a process may use of its machine, or of what a container leaves of it, and what it tells whoever watches there,
and nobody else.

All parts ask, and tell; like `totalanvi.formats`, this package knows neither of them.
"""
