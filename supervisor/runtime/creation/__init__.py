"""How a container comes to be: from a create request to a definition."""
