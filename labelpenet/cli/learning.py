"""Commands up to a checkpoint: proposals, train and its report, and the demo of it all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console

from labelpenet.cli.app import (
    AnySource,
    EngineName,
    Images,
    Method,
    Overrides,
    Settings,
    Source,
    Split,
    Stored,
    app,
    console,
    going_on,
    plain,
    warn_of_gaps,
)
from labelpenet.engines import Engine


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("demo"),
    config: Annotated[
        str, typer.Option("--config", "-c", help="A .toml or .yaml file, or a preset.")
    ] = "demo",
    overrides: Overrides = None,
) -> None:
    """Make synthetic scenes, train on their tags alone, label new ones, show the result.

    Takes a few minutes on two cores and needs no data: the whole way from tags to masks.
    """
    from labelpenet.config import load_config
    from labelpenet.demo import run_demo

    with going_on("run the same command again to go on"):
        result = run_demo(out, load_config(config, overrides or ()), console)
    Console(emoji=False).print(result.evaluation.table())
    console.print(f"mask AP at 0.5: [bold]{result.mask_ap_50:.3f}[/], {result.seconds:.0f} s")
    console.print(f"open [bold]{plain(result.page)}[/] in a browser")


@app.command()
def proposals(
    source: AnySource,
    out: Annotated[Path, typer.Argument(help="Parquet file to write.", show_default=False)],
    split: Split = None,
    config: Settings = None,
    overrides: Overrides = None,
    engine: EngineName = Engine.LOCAL,
    workers: Annotated[int, typer.Option(min=0, help="Extra threads, or actors.")] = 0,
) -> None:
    """Compute the selective search boxes of every image once and store them.

    A stopped run goes on where it was; bad images are listed in OUT.errors.jsonl.
    """
    from labelpenet.config import load_config
    from labelpenet.data import list_images
    from labelpenet.labeler import store_proposals

    settings = load_config(config, overrides or ())
    with (
        going_on("run the same command again to go on"),
        list_images(source, split=split) as images,
    ):
        result = store_proposals(
            images, out, settings, engine=engine, workers=workers, console=console
        )
    console.print(f"{result.computed} images computed, {result.kept} kept: {plain(result.path)}")
    if result.errors:
        console.print(f"[yellow]{len(result.errors)} failed, see {plain(result.errors_path)}")
        raise typer.Exit(1)


@app.command()
def train(
    source: Source,
    out: Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)],
    split: Split = None,
    config: Settings = None,
    overrides: Overrides = None,
    stored: Stored = None,
    weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="ImageNet weights: torchvision's state dict (.pth, .safetensors), or the word "
            "torchvision to download it.",
            show_default="those of the settings",
        ),
    ] = None,
    until: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            min=1,
            max=5,
            help="Last stage: 1 to 4 a module, 5 forward-backward.",
            show_default="5",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    method: Annotated[
        Method, typer.Option(help="icn trains the second system, see docs/icn.md.")
    ] = Method.CASCADE,
) -> None:
    """Train modules 1 to 4 in order, then forward-backward, from image-level tags alone.

    The same command on the same folder goes on where a stopped one was. Images without tags, or
    that cannot be opened, are listed before anything starts. Several processes: torchrun
    --nproc-per-node=N -m labelpenet train ...
    """
    import json

    from labelpenet.config import load_config
    from labelpenet.training.run import train_cascade
    from labelpenet.training.trainer import FORWARD_BACKWARD

    named = [] if weights is None else [f"model.weights={json.dumps(weights, ensure_ascii=False)}"]
    settings = load_config(config, [*(overrides or ()), *named])
    if "://" in source:
        raise ValueError(f"{source}: training reads files of this machine; copy them here first")
    with going_on(f"run the same command again to go on in {out}"):
        if method is Method.ICN:
            from labelpenet.icn.training import train_icn

            if stored is not None or until is not None:
                raise ValueError("--proposals, --until: expected none with --method icn")
            checkpoint = train_icn(
                settings, Path(source), out, split=split, device=device, console=console
            )
        else:
            checkpoint = train_cascade(
                settings,
                Path(source),
                out,
                split=split,
                proposals=stored,
                until=FORWARD_BACKWARD if until is None else until,
                device=device,
                console=console,
            )
    console.print(f"checkpoint: [bold]{plain(checkpoint)}")


@app.command()
def report(
    folder: Annotated[
        Path,
        typer.Argument(
            help="What `label` or `train` wrote, or a COCO JSON.", show_default=False, metavar="OUT"
        ),
    ],
    images: Images = None,
    most: Annotated[int, typer.Option(min=0, help="Images on the page of labels.")] = 5000,
) -> None:
    """Make the page of labels, index.html, or of a training, training.html.

    Labels: a gallery with masks to switch, figures and filters. A training, finished or under way:
    losses, rates, gradients, agreement of labels.
    """
    from labelpenet.report.gallery import write_report
    from labelpenet.report.training import LOSSES, write_training_page

    if (folder / LOSSES).is_file():
        page = write_training_page(folder)
    else:
        page = write_report(folder, images=images, most=most, console=console)
        warn_of_gaps(folder)
    console.print(f"written to [bold]{plain(page)}")
