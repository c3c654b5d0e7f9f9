"""The event journal: cursors, filters, sinks."""
