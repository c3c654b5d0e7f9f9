"""Programs that are a container's network: where they are, and what they are told."""
