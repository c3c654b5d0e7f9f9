"""Volumes: directories with a name that outlive containers, and those without one, which go with theirs."""
