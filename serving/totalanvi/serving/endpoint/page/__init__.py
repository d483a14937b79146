"""A page for people without Python, which does in a browser what the client does: static files, and no more rights."""
