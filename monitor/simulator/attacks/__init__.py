"""The attacks that a scenario can plant, one class for each kind."""
