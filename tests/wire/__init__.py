"""Tests of pyman/wire.py."""
