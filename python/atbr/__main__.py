"""`python -m atbr`: what the console script `atbr` does."""

import sys

from atbr.cli import main

if __name__ == "__main__":
    sys.exit(main())
