"""``python -m mflib`` is the command ``mflib``."""

import sys


def main() -> int:
    """Run the command line; Ctrl-C ends it without a traceback from the first moment on."""
    try:
        from .book.cli import main as command

        return command()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
