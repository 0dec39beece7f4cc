"""The two-GPU network of Krizhevsky, Sutskever and Hinton (2012), in JAX and Flax."""
