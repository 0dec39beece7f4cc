"""The mesh of devices, and many processes as one program."""
