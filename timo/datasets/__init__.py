"""Data sets of many places: made or read, each in a module of its own."""
