"""Which name of a query is which feature of the reference, and what came of it."""
