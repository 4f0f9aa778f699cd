"""The command group, its console, and the options that several commands have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
import typer.core
from rich.console import Console

from labelpenet.engines import Engine


class _Commands(typer.core.TyperGroup):
    """Says how to go on after Ctrl-C; typer itself would end without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            console.print(f"[yellow]stopped[/] {plain(stop)}", highlight=False, soft_wrap=True)
            raise typer.Exit(130) from None


class Method(str, Enum):
    """The systems that labels come from: Label-PEnet's cascade, or ICN."""

    CASCADE = "cascade"
    ICN = "icn"


app = typer.Typer(
    name="labelpenet",
    cls=_Commands,
    help="Instance masks from photos that only carry image-level tags (Label-PEnet).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
console = Console(stderr=True, emoji=False)  # names may hold :x:

Source = Annotated[
    str,
    typer.Argument(
        help="Images and tags: a CSV or Parquet list (image,labels), a COCO JSON, a VOC devkit, a "
        "folder per class, or a folder of photos.",
        show_default=False,
    ),
]
AnySource = Annotated[
    str,
    typer.Argument(
        help="Images and tags: a CSV or Parquet list (image,labels), a COCO JSON, a VOC devkit, a "
        "folder per class, or one of photos, here or at a URL (s3://…); or WebDataset archives: "
        "shards-{000..127}.tar, or a folder of them.",
        show_default=False,
    ),
]
LabelsPath = Annotated[
    Path, typer.Argument(help="A label store, or COCO JSON.", show_default=False)
]
Images = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="Folder of the photos, where the labels have relative names.", show_default=False
    ),
]
EngineName = Annotated[
    Engine, typer.Option(help="This machine, or a Ray cluster (RAY_ADDRESS; extra `ray`).")
]
Split = Annotated[
    Optional[str],  # noqa: UP045 - typer reads the annotation at run time on Python 3.10
    typer.Option(help="Part of the dataset, such as train or val.", show_default=False),
]
Settings = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--config",
        "-c",
        help="A .toml or .yaml file, or a preset: demo, voc-squeezenet, voc-vgg16, icn-squeezenet.",
        show_default="the paper's settings",
    ),
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--set", help="Override one setting: --set train.rate=1e-4. Repeatable.", show_default=False
    ),
]
Stored = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--proposals", help="Stored proposals (from `labelpenet proposals`).", show_default=False
    ),
]
Threads = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, max=1024, help="CPU threads.", show_default="all cores"),
]


@contextmanager
def going_on(how: str) -> Iterator[None]:
    """Says after Ctrl-C in the block how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how) from None


def plain(text: object) -> str:
    """The text with rich's markup taken as text: names and paths may hold brackets."""
    from rich.markup import escape

    return escape(str(text))


def warn_of_gaps(labels: Path) -> None:
    """Says what labels lack, where an export or a page of them would not show it."""
    from labelpenet.labeling import open_labels

    for gap in open_labels(labels).gaps():
        console.print(
            f"[yellow]warning:[/] {plain(labels)}: {gap}", highlight=False, soft_wrap=True
        )
