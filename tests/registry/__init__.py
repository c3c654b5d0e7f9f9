"""The program that talks to registries."""
