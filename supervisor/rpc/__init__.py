"""The Varlink server: framing, dispatch from the contract, peer credentials, passed descriptors."""
