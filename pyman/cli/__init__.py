"""The command line: standard library only, one module per noun, imported when its verb is used."""
