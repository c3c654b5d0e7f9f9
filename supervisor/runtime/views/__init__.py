"""What is shown: of containers, of the host, of why something happened."""
