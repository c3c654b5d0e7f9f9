"""The engine of an ordinary user: its user and mount namespace, and the ids that exist in it."""
