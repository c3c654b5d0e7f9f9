"""The daemon: one long-lived process per user that runs, watches and keeps containers."""
