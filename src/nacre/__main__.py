"""``python -m nacre`` is ``nacre``; torchrun starts it so."""

from nacre.cli import main

if __name__ == "__main__":
    main()
