"""What a run is: its config, its folder, its checkpoints, its numbers."""
