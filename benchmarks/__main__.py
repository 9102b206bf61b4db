"""``python -m benchmarks NAME [--json] [--rounds 7] [--toy] [--out FILE]``: measure one job."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .harness import JOBS, measure, memory
from .outside import make


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=JOBS)
    parser.add_argument("--json", action="store_true", help="print the record, not a table")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved pairs")
    parser.add_argument("--toy", action="store_true", help="small sizes, as the tests do")
    parser.add_argument("--out", metavar="FILE", help="write the record to a file as well")
    parser.add_argument(
        "--with-neural-tangents",
        action="store_true",
        help="make its environment in _build/peers first, where that is not done (600 MB)",
    )
    parser.add_argument("--memory", nargs=2, metavar=("SIZE", "WHO"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: expected at least 1")
    if options.memory:
        size, who = int(options.memory[0]), options.memory[1]
        print(json.dumps(memory(options.name, size, who, options.toy)))
        return
    if options.with_neural_tangents:
        make("neural_tangents")
    found = measure(options.name, options.rounds, options.toy)
    text = json.dumps(found, indent=1)
    if options.out:
        from mflib.provenance import write

        write(Path(options.out), text + "\n")
    if options.json:
        print(text)
        return
    for row in found["rows"]:
        print(
            f"{row['size']:>24} {row['peer']:<28} {row['ratio']:6.2f} "
            f"[{row['spread'][0]:.2f}, {row['spread'][1]:.2f}]  difference {row['agreement']}"
        )
    print("not installed:", ", ".join(found["missing"]) or "nothing", file=sys.stderr)


if __name__ == "__main__":
    main()
