"""Tests of supervisor/rootless, with a real ordinary user where one is needed."""
