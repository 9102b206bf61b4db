"""``python -m mflib.cifar``: the commands of the table."""

import sys

try:
    from .cli import main
except ModuleNotFoundError as error:
    if error.name not in ("torch", "numpy"):
        raise
    print(
        f"mflib cifar: error: {sys.executable} has no {error.name}; install torch (2.11 or"
        " newer) and numpy there, or name another Python (make table PYTHON=...)",
        file=sys.stderr,
    )
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
