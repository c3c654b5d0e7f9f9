"""A container's worker and its parts: start, stop, end, restart, exec."""
