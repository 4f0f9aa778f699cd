"""`python -m benchmarks [op ...]`: the same cases without pytest."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from pathlib import Path

import benchmarks
from benchmarks import report
from benchmarks.harness import Case, Wrong, run


def cases() -> list[Case]:
    """Those of all bench_*.py files."""
    found: list[Case] = []
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name.startswith("bench_"):
            found += importlib.import_module(f"benchmarks.{module.name}").CASES
    return found


def main(arguments: list[str] | None = None) -> int:
    """Prints the table, writes the JSON, and returns 1 where a result was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = cases()
    parser.add_argument("op", nargs="*", help=", ".join(sorted({case.op for case in known})))
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each column")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="folder for the JSON")
    options = parser.parse_args(arguments)
    unknown = set(options.op) - {case.op for case in known}
    if unknown:
        parser.error(f"no op named {', '.join(sorted(unknown))}")
    chosen = [case for case in known if not options.op or case.op in options.op]
    rows = list(run(chosen, seconds=options.seconds))
    table, path = report.publish(rows, options.results)
    print(f"{table}\nwritten to {path}")
    return int(any(isinstance(o, Wrong) for row in rows for o in row.outcomes.values()))


if __name__ == "__main__":
    raise SystemExit(main())
