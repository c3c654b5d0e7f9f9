"""containers.conf and storage.conf as frozen values; the layout of every path on disk."""
