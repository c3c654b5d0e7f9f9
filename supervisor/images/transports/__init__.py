"""Where images are copied from and to: registries, archives, directories, other stores; each a source, a destination or both."""
