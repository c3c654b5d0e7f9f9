"""Documents that images are made of: manifests, lists and configurations, of OCI's kind and of Docker's."""
