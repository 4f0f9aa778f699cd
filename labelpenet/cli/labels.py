"""Commands about labels: label, evaluate and export."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console

from labelpenet.cli.app import (
    AnySource,
    EngineName,
    Images,
    LabelsPath,
    Method,
    Overrides,
    Source,
    Split,
    Stored,
    app,
    console,
    plain,
    warn_of_gaps,
)
from labelpenet.engines import Engine


class ExportFormat(str, Enum):
    """Formats that `labelpenet export` writes."""

    COCO = "coco"
    VOC = "voc"
    YOLO = "yolo"
    LABELME = "labelme"


class ExportPhotos(str, Enum):
    """What `labelpenet export` does with the photos."""

    COPY = "copy"
    LINK = "link"
    NONE = "none"


@app.command()
def label(
    context: typer.Context,
    source: AnySource,
    out: Annotated[Path, typer.Argument(help="Folder of the store.", show_default=False)],
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
        int, typer.Option(min=0, help="Images whose way to the masks is kept for the report.")
    ] = 60,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:N; cuda and several workers: one GPU each.")
    ] = "cpu",
    min_quality: Annotated[
        float,
        typer.Option(min=0, max=1, help="Leave out objects of a lower overall quality."),
    ] = 0.0,
    min_score: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            min=0,
            max=1,
            help="Leave out objects of a lower score, but for the best one of every tag; 0 to "
            "evaluate average precision.",
            show_default="detection.paint_score",
        ),
    ] = None,
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
    engine: EngineName = Engine.LOCAL,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes, or actors; they share the cores.")
    ] = 1,
    batch: Annotated[
        int, typer.Option(min=1, help="Photos that go through the network together.")
    ] = 1,
    shard_size: Annotated[
        int, typer.Option(min=1, help="Images of a file of the store: what a kill may cost.")
    ] = 128,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Try the images that failed again.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Write instance masks for every image into a label store: Parquet files.

    A stopped run goes on where it was, and another job's store is refused. An image that fails is
    listed in errors.jsonl, and the exit status is 1 then. Ctrl-C finishes the file in hand.
    """
    from labelpenet.engines import Workers
    from labelpenet.labeling.job import LabelerSettings, label_dataset
    from labelpenet.labeling.runner import Options

    summary = label_dataset(
        source,
        out,
        LabelerSettings(
            checkpoint,
            module,
            tags,
            stored,
            device,
            agreement,
            None if method is None else method.value,
            tuple(overrides or ()),
            min_score,
        ),
        split=split,
        options=Options(
            engine=engine,
            workers=Workers(workers, device, context.obj),
            batch=batch,
            shard_size=shard_size,
            pictures=pictures,
            min_quality=min_quality,
            retry_errors=retry_errors,
        ),
        console=console,
    )
    filtered = f"{summary.filtered} below quality {min_quality:g} left out, " if min_quality else ""
    console.print(
        f"{summary.instances} instances in {summary.images} images, {filtered}"
        f"{summary.seconds:.0f} s: [bold]{plain(out)}"
    )
    if summary.unwritten:
        console.print(f"[yellow]{summary.unwritten} files of the store could not be written")
    if summary.errors:
        console.print(f"[yellow]{summary.errors} images failed, see {plain(out / 'errors.jsonl')}")
    if summary.unwritten or summary.errors:
        raise typer.Exit(1)


@app.command()
def evaluate(
    labels: LabelsPath,
    source: Source,
    split: Split = None,
    json_out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Also write the figures here.", show_default=False),
    ] = None,
    paint_score: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            min=0,
            max=1,
            help="Leave objects of a lower score out of the semantic maps.",
            show_default="what the labels were made with",
        ),
    ] = None,
    engine: EngineName = Engine.LOCAL,
    workers: Annotated[int, typer.Option(min=1, help="Processes, or actors.")] = 1,
) -> None:
    """Compare labels with ground truth: box AP, CorLoc, mask AP, ABO, mIoU.

    SOURCE is a VOC devkit or a COCO JSON; a CSV beside a VOC folder works where its images do.
    In an image without labels nothing counts as found, and a warning says how many there are;
    labels of other images are refused.
    """
    from labelpenet.engines import Workers
    from labelpenet.evaluation.files import evaluate_files
    from labelpenet.files import atomic_write

    result = evaluate_files(
        labels,
        source,
        split,
        engine=engine,
        workers=Workers(workers),
        paint_score=paint_score,
        console=console,
    )
    if json_out is not None:
        with atomic_write(json_out) as file:
            file.write(result.to_json())
    Console(emoji=False).print(result.table())


@app.command()
def export(
    labels: LabelsPath,
    out: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    format: Annotated[ExportFormat, typer.Option("--format", "-f")] = ExportFormat.COCO,
    photos: Annotated[
        ExportPhotos, typer.Option(help="Photos beside the labels: copied, hard links, or none.")
    ] = ExportPhotos.COPY,
    images: Images = None,
) -> None:
    """Turn labels into COCO JSON, VOC PNGs and XML, YOLO-seg text or LabelMe files.

    A photo with an orientation flag is written upright: every reader sees what was labelled.
    """
    from labelpenet.labeling.export import export as write

    count = write(labels, out, format.value, photos=photos.value, images=images)
    warn_of_gaps(labels)
    console.print(f"{count} images written to [bold]{plain(out)}")
