"""Containers from beginning to end, by the command line, on real conmon and OCI runtimes."""
