"""One training run: batch, update, report, validation, checkpoint."""
