"""What the kernel is told of networks: interfaces and the packet filter, by netlink."""
