"""Graphs in less than float32: an option of export, whose cost is measured and told."""
