"""Weights of other programs: Caffe, PyTorch, safetensors and StableHLO, read and written."""
