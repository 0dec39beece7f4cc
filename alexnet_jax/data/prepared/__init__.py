"""A prepared set: made, opened, listed and looked at."""
