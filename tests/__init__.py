"""The tests: a package per room; real programs where possible."""
