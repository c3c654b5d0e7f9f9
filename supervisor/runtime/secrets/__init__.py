"""Secrets: the store that other engines on the graph root share, its drivers, and what containers get of them."""
