"""Images: names, manifests, transports, and the store that other engines read."""
