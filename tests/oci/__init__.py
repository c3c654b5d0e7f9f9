"""Tests of supervisor/oci."""
