"""Training: the step and the optimiser, pure functions on arrays."""
