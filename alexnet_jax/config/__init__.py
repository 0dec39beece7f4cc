"""What may be configured: every field, its checks, and what the config becomes."""
