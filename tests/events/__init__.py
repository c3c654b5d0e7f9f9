"""Tests of supervisor/events."""
