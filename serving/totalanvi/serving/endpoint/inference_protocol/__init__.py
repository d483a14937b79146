"""The Open Inference Protocol, version 2, for clients that already speak it: dense counts in, results out."""
