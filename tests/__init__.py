"""The tests of Floodwatch, and what they run on."""
