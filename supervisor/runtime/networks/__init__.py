"""Networks: what is done to their definitions, told once, and which of them containers are on."""
