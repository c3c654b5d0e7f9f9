"""Tests of supervisor/state."""
