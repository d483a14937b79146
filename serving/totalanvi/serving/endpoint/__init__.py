"""The service: routes, limits, a queue for heavy work, metrics, and the process that runs them."""
