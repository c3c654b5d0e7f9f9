"""Tests of the words, the errors and the contract."""
