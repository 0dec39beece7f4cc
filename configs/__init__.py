"""What to train: alexnet.py has every field, variants.py the rows of the paper."""
