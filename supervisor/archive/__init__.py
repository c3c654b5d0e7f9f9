"""Layers as tar streams: the programs that unpack and pack them, each confined to what it works on."""
