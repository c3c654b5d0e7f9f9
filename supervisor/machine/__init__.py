"""Docker's socket and virtual machines."""
