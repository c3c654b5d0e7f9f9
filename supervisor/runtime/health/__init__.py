"""Health checks: what is asked of a container while it runs, when, and what follows from the answers."""
