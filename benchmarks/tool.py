"""What the commands of this folder share: numbers from the command line, errors in one line."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse.

    Example:
        >>> positive("3")
        3
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, got {text}")
    return number


def one_line_errors(main: Callable[[list[str] | None], None]) -> Callable[[list[str] | None], int]:
    """A command whose status is 0, or 2 where what it was given is wrong, told in one line.

    Args:
        main: The command; raises ValueError, TypeError or OSError for what it cannot use.
    """

    @functools.wraps(main)
    def command(arguments: list[str] | None = None) -> int:
        try:
            main(arguments)
        except (ValueError, TypeError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return 0

    return command
