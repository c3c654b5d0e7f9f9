"""What a run has on networks: allotted, made, changed and taken away."""
