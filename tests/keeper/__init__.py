"""The keeper, the daemon it brings back, and the ways to start them."""
