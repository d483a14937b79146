"""Simulated references, with known cell types and known expression."""
