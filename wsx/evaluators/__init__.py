"""Scoring subnets: sessions, calibration, plans, populations, the eager oracle, the equality gate.

Nothing is imported here: scoring an exported folder works where torch is not installed.
"""
