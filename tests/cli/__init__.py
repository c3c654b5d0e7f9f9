"""Tests of pyman/cli."""
