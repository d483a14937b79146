"""Many queries as one job: mapped range by range, kept as soon as they are done, and gone on with after any end."""
