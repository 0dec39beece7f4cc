"""What to train: one file a subject, see alexnet.py for every field."""
