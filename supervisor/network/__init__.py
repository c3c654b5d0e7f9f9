"""Bridges, addresses, packet filters and names of container networks."""
