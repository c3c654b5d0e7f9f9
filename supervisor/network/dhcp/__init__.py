"""Addresses that a DHCP server gives to containers."""
