"""Tests of `supervisor.storage`."""
