"""`python -m labelpenet`: the command, as torchrun starts it."""

from labelpenet.cli import main

if __name__ == "__main__":
    main()
