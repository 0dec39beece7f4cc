"""The one entry point: flags -> config -> mode. See README.md, or --help."""

from alexnet_jax.command_line import main

if __name__ == "__main__":
    main()
