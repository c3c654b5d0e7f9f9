"""Tests of supervisor/rpc."""
