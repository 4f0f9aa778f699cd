"""The tables of README and docs/benchmarks.md, from stored runs alone: `-m benchmarks.readme`.

Each page has markers, `<!-- name -->` and `<!-- /name -->`; what lies between them is rendered.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import recall, report, scaling, tables

ROOT = Path(__file__).parents[1]
README, DETAILS = ROOT / "README.md", ROOT / "docs" / "benchmarks.md"
STORED = ("cpu.json", "cuda.json")
NOTHING = (
    "No run is stored yet: `make bench` measures on this machine and stores one, and\n"
    "`python -m benchmarks.readme` then puts its table here.\n"
)


def kernels(results: Path) -> str:
    """The tables of the stored runs, each with its machine, versions, commit and date."""
    runs = [report.load(results / name) for name in STORED if (results / name).is_file()]
    return "\n".join(tables.markdown(run) for run in runs) if runs else NOTHING


def end_to_end(results: Path) -> str:
    """Module 1 stage by stage, in each precision."""
    path = results / "end-to-end.json"
    if not path.is_file():
        return "Not measured yet.\n"
    from .end_to_end import report as shown

    stored = json.loads(path.read_text(encoding="utf-8"))
    parts = [shown(run).replace("\n| stage", "\n\n| stage") for run in stored["runs"]]
    texts = [part.replace("|\n- ", "|\n\n- ") for part in parts]
    return "\n\n".join([*texts, _machine(stored["machine"])]) + "\n"


def growth(results: Path) -> str:
    """The fitted exponent of every sweep."""
    path = results / "scaling.json"
    if not path.is_file():
        return "Not measured yet.\n"
    stored = json.loads(path.read_text(encoding="utf-8"))
    shown = "\n".join(line for sweep in stored["sweeps"] for line in scaling.lines(sweep))
    return f"```\n{shown}\n```\n\n{_machine(stored['machine'])}\n"


def proposals(results: Path) -> str:
    """How well selective search covers true objects."""
    path = results / "proposals.json"
    if not path.is_file():
        return "Not measured yet.\n"
    stored = json.loads(path.read_text(encoding="utf-8"))
    return f"{recall.table(stored['runs'])}\n\n{stored['source']}. {_machine(stored['machine'])}\n"


PAGES: dict[Path, dict[str, Callable[[Path], str]]] = {
    README: {"benchmarks": kernels},
    DETAILS: {"end to end": end_to_end, "scaling": growth, "proposals": proposals},
}


def rendered(
    text: str, sections: dict[str, Callable[[Path], str]], results: Path = report.RESULTS
) -> str:
    """`text` with everything between each section's markers replaced.

    Raises:
        ValueError: It does not have each marker once, in their order.
    """
    for name, section in sections.items():
        opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, begin, rest = text.partition(opening)
        _, end, after = rest.partition(closing)
        lost = not begin or not end
        if lost or opening in rest or closing in before or closing in after:
            raise ValueError(f"expected {opening} and {closing} once each")
        text = f"{before}{opening}\n{section(results)}{closing}{after}"
    return text


def main(arguments: list[str] | None = None) -> None:
    """Writes the pages."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__)
    parser.add_argument("--results", type=Path, default=report.RESULTS)
    options = parser.parse_args(arguments)
    for page, sections in PAGES.items():
        text = rendered(page.read_text(encoding="utf-8"), sections, options.results)
        page.write_text(text, encoding="utf-8")


def _machine(machine: dict[str, Any]) -> str:
    return (
        f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}, "
        f"commit {tables.commit({'machine': machine})}, {machine['date']}."
    )


if __name__ == "__main__":
    main()
