"""A user with a real service manager."""
