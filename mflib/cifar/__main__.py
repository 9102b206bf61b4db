"""``python -m mflib.cifar``: the commands of :mod:`mflib.cifar.cli`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
