"""libimage's part: references, registries, pull, push, load, save, build."""
