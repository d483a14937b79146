"""Where a query's cells, counts and names are found, in an object or a file, and how they are read block by block."""
