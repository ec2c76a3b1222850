"""Tests against the real components."""
