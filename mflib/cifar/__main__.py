"""``python -m mflib.cifar``: the commands of the table."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
