"""Tests of supervisor/conmon."""
