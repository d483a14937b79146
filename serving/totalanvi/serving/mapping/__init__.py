"""A query in, an annotated query out: the path that every reference shares, and a bundle in this process."""
