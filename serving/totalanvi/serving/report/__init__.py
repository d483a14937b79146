"""A report to keep of a mapped query: what is gathered while its cells pass, and the page that says it."""
