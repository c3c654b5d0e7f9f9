"""The OCI runtime: its specification, the builder of config.json, its commands."""
