"""Cells as the field stores them: what training and serving share, and which knows neither of them.

`objects.read_object` reads a file or folder whole, `stores.open_hdf5` and `stores.open_zarr` open one for reading in
parts; whatever is wrong with it is one `errors.FormatError`, which each part turns into an error of its own.
"""
