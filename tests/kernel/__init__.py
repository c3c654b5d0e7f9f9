"""Tests of supervisor/kernel."""
