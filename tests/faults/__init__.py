"""Faults on purpose: killed processes, hostile input, full disks."""
