"""What scripts/bench measures: pyman beside Podman and beside a container's life by hand."""
