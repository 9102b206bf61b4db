"""``python -m mflib`` is the command ``mflib``."""

import sys

from .book.cli import main

sys.exit(main())
