"""A trained network in use: what it computes for pictures."""
