"""What the network is, and what it computes."""
