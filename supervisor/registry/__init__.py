"""The program that talks to registries, and how the supervisor talks to it."""
