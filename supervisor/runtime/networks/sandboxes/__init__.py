"""The network namespace in which an ordinary user's bridges are."""
