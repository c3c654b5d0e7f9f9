"""Tests of supervisor/runtime."""
