"""What a process may use of its machine, or of what a container leaves of it: cores and memory; and a sign of life.

Training and serving both ask; like `totalanvi.formats`, this package knows neither of them.
"""
