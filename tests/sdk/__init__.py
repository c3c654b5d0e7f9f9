"""Tests of pyman/sdk and pyman.client."""
