"""What networks do for containers, between real engines, hosts and peers."""
