"""What client and endpoint agree on: chunks of cells in Arrow, JSON schemas, and limits."""
