"""Helper programs that outlive the supervisor: the book of them, and the one that knows names."""
