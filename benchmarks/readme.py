"""`python -m benchmarks.readme`: README's table, from the stored runs and from nothing else."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import report, tables

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
STORED = ("cpu.json", "cuda.json")
NOTHING = (
    "No run is stored yet: `make bench` measures on this machine and stores one, and\n"
    "`python -m benchmarks.readme` then puts its table here.\n"
)


def section(results: Path = report.RESULTS) -> str:
    """The tables of the stored runs, each with its machine, versions, commit and date."""
    runs = [report.load(results / name) for name in STORED if (results / name).is_file()]
    return "\n".join(tables.markdown(run) for run in runs) if runs else NOTHING


def rendered(text: str, results: Path = report.RESULTS) -> str:
    """`text` with everything between the two markers replaced.

    Raises:
        ValueError: It does not have each marker once, in their order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before or END in after:
        raise ValueError(f"expected {BEGIN} and {END} once each")
    return f"{before}{BEGIN}\n{section(results)}{END}{after}"


def main(arguments: list[str] | None = None) -> None:
    """Writes README.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__)
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--results", type=Path, default=report.RESULTS)
    options = parser.parse_args(arguments)
    text = rendered(options.readme.read_text(encoding="utf-8"), options.results)
    options.readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
