"""A picture file to pixels."""
