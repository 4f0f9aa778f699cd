"""The `labelpenet` command: one library call per subcommand."""

from __future__ import annotations

import io
import sys

import typer

from labelpenet.cli import labels, learning, tools  # each adds its commands
from labelpenet.cli.app import Threads, app, console, plain
from labelpenet.engines import WorkerDied

__all__ = ["app", "console", "labels", "learning", "main", "tools"]


@app.callback()
def _common(context: typer.Context, threads: Threads = None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    context.obj = threads


def main() -> None:
    """Runs the command; what the user can mend is one line, not a traceback."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 gets ? for a dash
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except (ValueError, TypeError, OSError, ImportError, WorkerDied) as error:
        console.print(f"[bold red]error:[/] {plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(2)
