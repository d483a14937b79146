"""Models that scvi-tools made, and what made them; `make_scvi_saves` says how."""
