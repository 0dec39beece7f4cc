"""Configuration: every field, its checks, and the network and recipe that a config describes."""
