"""The network: its description, its operations, and Flax modules that compute it."""
