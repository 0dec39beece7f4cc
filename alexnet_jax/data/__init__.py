"""Pictures in: sources, the prepared set, batches."""
