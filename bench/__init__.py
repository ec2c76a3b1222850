"""Benchmarks: Floodwatch beside its peers, in one run on one broker."""
