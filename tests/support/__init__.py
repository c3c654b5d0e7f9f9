"""What tests share: leak checks, the loop watch, a root file system, an engine of one's own."""
