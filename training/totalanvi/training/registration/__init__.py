"""From an AnnData or a MuData to registered cells: what is where, which names have which codes, who measured what."""
