"""Networks as netavark and Podman define them: their files, and the rules by which a new one is made."""
