"""The machines that it runs on."""
