"""`python -m benchmarks [op ...]`: the suite, with the JSON kept in benchmarks/results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .command import TOLERANCE, bench
from .report import RESULTS


def main(arguments: list[str] | None = None) -> int:
    """Prints the table, writes the JSON, and returns 1 where a result was wrong or a ratio fell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("op", nargs="*", help="such as nms; all by default")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each column")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    parser.add_argument("--json", type=Path, help="also write it here")
    parser.add_argument("--against", type=Path, help="a stored run, whose ratios are not to fall")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="share that may be lost")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--photo", type=Path, help="image for the cases that work on one")
    options = vars(parser.parse_args(arguments))
    try:
        return bench(options.pop("op"), folder=options.pop("results"), **options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
