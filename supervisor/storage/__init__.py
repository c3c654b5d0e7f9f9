"""The containers/storage layout on disk: layers, images, containers."""
