"""How it learns: the optimiser and the step, pure functions of arrays."""
