"""The `labelpenet` command: one library call per subcommand."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
import typer.core
from rich.console import Console


class _Commands(typer.core.TyperGroup):
    """Says how to go on after Ctrl-C; typer itself would end without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            console.print(f"[yellow]stopped[/] {_plain(stop)}", highlight=False, soft_wrap=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="labelpenet",
    cls=_Commands,
    help="Instance masks from photos that only carry image-level tags (Label-PEnet).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
console = Console(stderr=True)

Source = Annotated[
    Path,
    typer.Argument(
        help="Images and tags: a CSV (image,labels), a COCO JSON, a VOC devkit, a folder per "
        "class, or a folder of photos.",
        show_default=False,
    ),
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
        help="A .toml or .yaml file, or a preset: demo, voc-squeezenet, voc-vgg16.",
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
    typer.Option(min=1, help="CPU threads.", show_default="all cores"),
]


class Method(str, Enum):
    """The systems that labels come from: Label-PEnet's cascade, or ICN."""

    CASCADE = "cascade"
    ICN = "icn"


class ExportFormat(str, Enum):
    """Formats that `labelpenet export` writes."""

    VOC = "voc"
    YOLO = "yolo"
    COCO = "coco"


@app.callback()
def _common(threads: Threads = None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


@app.command()
def info() -> None:
    """Show versions, how the kernels were built, and the device found."""
    from labelpenet.info import table

    Console().print(table())


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("demo"),
    config: Settings = "demo",
    overrides: Overrides = None,
) -> None:
    """Make synthetic scenes, train on their tags alone, label new ones, show the result.

    Takes a few minutes on two cores and needs no data: the whole way from tags to masks.
    """
    from labelpenet.config import load_config
    from labelpenet.demo import run_demo

    result = run_demo(out, load_config(config, overrides or ()), console)
    Console().print(result.evaluation.table())
    console.print(f"mask AP at 0.5: [bold]{result.mask_ap_50:.3f}[/], {result.seconds:.0f} s")
    console.print(f"open [bold]{result.page}[/] in a browser")


@app.command()
def proposals(
    source: Source,
    out: Annotated[Path, typer.Argument(help="Parquet file to write.", show_default=False)],
    split: Split = None,
    config: Settings = None,
    overrides: Overrides = None,
    workers: Annotated[int, typer.Option(min=0, help="Extra threads.")] = 0,
) -> None:
    """Compute the selective search boxes of every image once and store them.

    A stopped run goes on where it was; bad images are listed in errors.jsonl beside the store.
    """
    from labelpenet.config import load_config
    from labelpenet.data import compute_proposals, load_dataset
    from labelpenet.labeler import proposal_settings, propose

    settings = load_config(config, overrides or ())
    result = compute_proposals(
        load_dataset(source, split=split),
        out,
        propose=lambda image: propose(image, settings),
        settings=proposal_settings(settings),
        workers=workers,
        console=console,
    )
    console.print(f"{result.computed} images computed, {result.kept} kept: {result.path}")
    if result.errors:
        console.print(f"[yellow]{len(result.errors)} failed, see {result.errors_path}")
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
        int,
        typer.Option(min=1, max=5, help="Last stage: 1 to 4 a module, 5 forward-backward."),
    ] = 5,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    method: Annotated[
        Method, typer.Option(help="icn trains the second system, see docs/icn.md.")
    ] = Method.CASCADE,
) -> None:
    """Train modules 1 to 4 in order, then forward-backward, from image-level tags alone.

    The same command on the same folder goes on where a stopped one was. Images that cannot be
    used are listed before anything starts. Several processes: torchrun --nproc-per-node=N
    -m labelpenet train ...
    """
    import json

    from labelpenet.config import load_config
    from labelpenet.training.run import train_cascade

    named = [] if weights is None else [f"model.weights={json.dumps(weights)}"]
    settings = load_config(config, [*(overrides or ()), *named])
    if method is Method.ICN:
        from labelpenet.icn.training import train_icn

        checkpoint = train_icn(settings, source, out, split=split, device=device, console=console)
        console.print(f"checkpoint: [bold]{checkpoint}")
        return
    checkpoint = train_cascade(
        settings,
        source,
        out,
        split=split,
        proposals=stored,
        until=until,
        device=device,
        console=console,
    )
    console.print(f"checkpoint: [bold]{checkpoint}")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="The folder of a training.", show_default=False)],
) -> None:
    """Plot a training, finished or under way: losses, rates, gradients, agreement of labels.

    Writes training.html into the folder, as `train` does at its end.
    """
    from labelpenet.report.training import write_training_page

    console.print(f"written to [bold]{write_training_page(run)}")


@app.command()
def label(
    source: Source,
    out: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    checkpoint: Annotated[Path, typer.Option(help="From training.", show_default=False)],
    split: Split = None,
    module: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, max=4, help="Which module answers.", show_default="the last trained"),
    ] = None,
    tags: Annotated[
        bool, typer.Option(help="Take the images' tags as true, or have them guessed.")
    ] = True,
    stored: Stored = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Images shown on the HTML page; 0 for no page.")
    ] = 60,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    min_quality: Annotated[
        float,
        typer.Option(min=0, max=1, help="Leave out objects of a lower overall quality."),
    ] = 0.0,
    agreement: Annotated[
        bool,
        typer.Option(help="Ask the other one of modules 3 and 4 too: part of the quality."),
    ] = True,
    method: Annotated[
        Optional[Method],  # noqa: UP045
        typer.Option(
            help="Refuse a checkpoint of another one.", show_default="the checkpoint's own"
        ),
    ] = None,
) -> None:
    """Write instance masks for every image: labels.json (COCO, RLE) and an HTML page.

    A bad image is skipped and listed in errors.jsonl; the exit status is 1 then. A stopped run
    goes on where it was.
    """
    from labelpenet.labeling.job import label_dataset

    summary = label_dataset(
        source,
        out,
        checkpoint,
        split=split,
        module=module,
        use_tags=tags,
        proposals=stored,
        pictures=pictures,
        device=device,
        min_quality=min_quality,
        agreement=agreement,
        method=None if method is None else method.value,
        console=console,
    )
    filtered = f"{summary.filtered} below quality {min_quality:g} left out, " if min_quality else ""
    console.print(
        f"{summary.instances} instances in {summary.images} images, {filtered}"
        f"{summary.seconds:.0f} s: [bold]{out / 'labels.json'}"
    )
    if summary.errors:
        console.print(f"[yellow]{summary.errors} images failed, see {out / 'errors.jsonl'}")
        raise typer.Exit(1)


@app.command()
def evaluate(
    labels: Annotated[Path, typer.Argument(help="labels.json.", show_default=False)],
    source: Source,
    split: Split = None,
    json_out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Also write the figures here.", show_default=False),
    ] = None,
) -> None:
    """Compare labels with ground truth: box AP, CorLoc, mask AP, ABO, mIoU.

    SOURCE is a VOC devkit or a COCO JSON; a CSV beside a VOC folder works where its images do.
    """
    from labelpenet.evaluation.files import evaluate_files
    from labelpenet.files import atomic_write

    result = evaluate_files(labels, source, split)
    Console().print(result.table())
    if json_out is not None:
        with atomic_write(json_out) as file:
            file.write(result.to_json())


@app.command()
def export(
    labels: Annotated[Path, typer.Argument(help="labels.json.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    format: Annotated[ExportFormat, typer.Option("--format", "-f")] = ExportFormat.VOC,
) -> None:
    """Turn labels.json into VOC PNGs, YOLO-seg text files or COCO polygons."""
    from labelpenet.labeling.export import export as write

    write(labels, out, format.value)
    console.print(f"written to [bold]{out}")


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


def main() -> None:
    """Runs the command; what the user can mend is one line, not a traceback."""
    try:
        app()
    except (ValueError, TypeError, OSError) as error:
        console.print(f"[bold red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(2)


def _plain(error: BaseException) -> str:
    """The message with rich's markup taken as text: names and paths may hold brackets."""
    from rich.markup import escape

    return escape(str(error))
