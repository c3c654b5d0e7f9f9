"""Tests of supervisor/settings."""
