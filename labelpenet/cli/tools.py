"""Commands about the installation: info and bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from labelpenet.cli.app import Threads, app


@app.command()
def info() -> None:
    """Show versions, how the kernels were built, and the device found."""
    from rich.console import Console

    from labelpenet.info import table

    Console(emoji=False).print(table())


@app.command()
def bench(
    ops: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="[OP]...", help="Such as nms.", show_default="all"),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time for each column of a case.")] = 1.0,
    json_out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Also write every figure here.", show_default=False),
    ] = None,
    against: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A stored --json, whose ratios are not to fall.", show_default=False),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Share of a ratio that may be lost.")] = 0.25,
    threads: Threads = None,
    photo: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Image for the cases that work on one.", show_default="a made-up one"),
    ] = None,
) -> None:
    """Time every kernel beside its specification and the best other code installed.

    Results are checked before they are timed; times are medians. The exit status is 1 where one is
    wrong, or where a ratio to the other code fell below that of a stored run.
    """
    from labelpenet.bench import suite

    status = suite().bench(
        ops or (),
        seconds=seconds,
        json=json_out,
        against=against,
        tolerance=tolerance,
        threads=threads,
        photo=photo,
    )
    raise typer.Exit(status)
