"""What mapping writes: annotated objects, copies of files, tables, and where all of it came from."""
