"""Tests of supervisor/storage, with the real kernel and the real fuse-overlayfs."""
