"""What an earlier supervisor left, taken over or cleared; records compared with what is there."""
