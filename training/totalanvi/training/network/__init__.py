"""totalVI and TotalANVI as torch modules, one topic a file; `vae` and `anvae` are where to begin."""
