"""Compositions of the library: what the commands of ``wsx`` do."""
