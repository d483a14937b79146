"""Training: options, mini-batches, the step, and the loop around it; `plan` is where to begin."""
