"""Which feature of a query is which of the reference: names as people write them, and what is not to be guessed."""
