"""Searches: with the weights of a run, in an exported folder, or on a truth table."""
