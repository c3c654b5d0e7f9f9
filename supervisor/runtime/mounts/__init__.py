"""What is mounted in containers: settled at creation, made ready before a run, given back after it, shown."""
