"""Images on their way: into the store, out of it, or past it."""
