"""Archives: the programs that read and write them, with real files."""
