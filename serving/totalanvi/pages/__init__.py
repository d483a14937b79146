"""Pages to keep: one HTML file each, with its charts inside, which asks nothing of the network and runs nothing.

What training, export and serving have to report they say through these; like `totalanvi.formats`, this package knows
none of them. A page is a tree of elements (`elements.py`), so text is escaped wherever it comes from; charts are small
SVG (`plots.py`, `scatter.py`, `matrix.py`) or tables with bars in them (`tables.py`), with their numbers in a table.
"""
