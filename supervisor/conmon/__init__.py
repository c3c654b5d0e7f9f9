"""conmon: find and probe it, spawn it, read exits, attach, resize, logs."""
