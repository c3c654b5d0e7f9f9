"""A container's root filesystem, for others than the container: layers, mounts, archives, commits."""
