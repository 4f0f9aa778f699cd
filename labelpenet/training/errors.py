"""Why training cannot start or go on."""

from __future__ import annotations


class TrainingError(ValueError):
    """Training that cannot start or go on; the message lists every reason."""


def refuse(problems: list[str]) -> None:
    """Raises TrainingError listing what stands in the way of a training, if anything does."""
    if problems:
        shown = "\n".join(f"  {p}" for p in problems[:50])
        more = f"\n  and {len(problems) - 50} more" if len(problems) > 50 else ""
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise TrainingError(f"training cannot start, {count}:\n{shown}{more}")
