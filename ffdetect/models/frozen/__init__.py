"""Frozen trunks, and the statistics that readers take of their layers."""
