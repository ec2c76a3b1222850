"""How Hypothesis runs here."""

from __future__ import annotations

from hypothesis import settings

# The first example of a fresh checkout compiles kernels; a hang ends by pytest's timeout.
settings.register_profile("floodwatch", settings(), deadline=None)
settings.load_profile("floodwatch")
