"""What a create request says of networks and ports, settled."""
