"""``python -m mflib`` is the command ``mflib``."""

import sys

from .cli import main

sys.exit(main())
