"""What a run's folder was started with: a stopped run goes on with the same, or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from labelpenet.config import Config
from labelpenet.data import ProposalStore
from labelpenet.files import atomic_write
from labelpenet.models.checkpoint import CheckpointError
from labelpenet.models.download import sha256, weights_file
from labelpenet.training.engine import Engine
from labelpenet.training.loop import STATE
from labelpenet.types import Dataset

CASCADE_NOTE, ICN_NOTE = "cascade.json", "icn.json"  # in a run's folder: what it started with
_LOOKED_AT = 16  # images whose proposals are compared


def same_run(
    path: Path,
    config: Config,
    dataset: Dataset,
    engine: Engine,
    proposals: ProposalStore | None = None,
) -> None:
    """Writes down what a run starts with, or checks that it goes on with the same.

    Checkpoints know their settings and classes, but neither the state of a stage that was stopped
    nor the labels that one module leaves to the next know the images. A run that has not come to a
    first checkpoint or state may start anew with others: there is nothing to go on from. The first
    checkpoint holds the whole of the networks; up to there they are built from the weights file
    anew, which has to be the same.

    Args:
        path: The run's file of it.
        config: All settings on which the run depends.
        dataset: The training images.
        engine: Its first process writes.
        proposals: Of the images, where the run uses some.

    Raises:
        CheckpointError: Other settings, classes, images, tags, proposals or weights, or a broken
            file.
    """
    names = hashlib.sha256()
    for record in dataset.records:
        names.update(json.dumps([record.name, list(record.labels or ())]).encode() + b"\n")
    settings = settings_of(config)
    files = {file.name for file in path.parent.glob("*.pt")}
    built = files <= {STATE}  # from the weights file, which nothing asks for later
    weights = weights_file(config.model) if built else None
    now = {
        "settings": settings,
        "classes": list(dataset.classes),
        "images": len(dataset.records),
        "names and tags": names.hexdigest(),
        "weights": None if weights is None else sha256(weights),
        "proposals": None if proposals is None else _some_boxes(proposals, dataset),
    }
    known = path.exists() and bool(files)
    others = [path.with_name(name) for name in (CASCADE_NOTE, ICN_NOTE) if name != path.name]
    if files and not known and any(other.exists() for other in others):
        raise CheckpointError(f"{path.parent}: holds a run of the other method; use another folder")
    if known:
        try:
            then = json.loads(path.read_text(encoding="utf-8"))
            changed = difference(then["settings"], settings)
            same_classes = then["classes"] == now["classes"]
            same_images = all(then[key] == now[key] for key in ("images", "names and tags"))
            other = {key: then[key] != now[key] for key in ("weights", "proposals")}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(
                f"{path}: expected what the run was started with, got another or broken file; "
                "use another folder"
            ) from None
        if not same_classes:
            changed.append(f"classes: {then['classes']} there, {now['classes']} here")
        elif not same_images:
            changed.append(
                f"images and tags: other ones than the {then['images']} there, {now['images']} here"
            )
        elif other["proposals"]:
            changed.append("proposals: other boxes than there")
        if other["weights"] and built:
            changed.append("model.weights: another file than there, or none")
        refuse_changed(path, changed)
    engine.wait()
    if engine.rank == 0 and not known:
        with atomic_write(path) as file:
            json.dump(now, file, indent=1)


def _some_boxes(proposals: ProposalStore, dataset: Dataset) -> str:
    """Tells one store from another by the boxes of a few images, spread over the dataset."""
    digest = hashlib.sha256()
    for record in dataset.records[:: max(len(dataset) // _LOOKED_AT, 1)]:
        digest.update(proposals[record.name].tobytes())
    return digest.hexdigest()


def settings_of(config: Config) -> dict[str, object]:
    """The settings, without the weights file that the run once started from."""
    settings = json.loads(json.dumps(config.to_dict()))
    settings["model"]["weights"] = None
    return dict(settings)


def refuse_changed(path: Path, changed: list[str]) -> None:
    """Raises CheckpointError where anything differs from what `path` was made with."""
    if changed:
        raise CheckpointError(
            f"{path}: made with other settings or images ({', '.join(changed)}); use another "
            "folder, or the same settings and images to go on"
        )


def difference(there: dict[str, object], here: dict[str, object], prefix: str = "") -> list[str]:
    """What differs between two trees of settings, as `section.key: ... there, ... here`."""
    changed = []
    for key in [*here, *(key for key in there if key not in here)]:
        then, now = there.get(key), here.get(key)
        if isinstance(then, dict) and isinstance(now, dict):
            changed += difference(then, now, f"{prefix}{key}.")
        elif then != now:
            changed.append(f"{prefix}{key}: {then!r} there, {now!r} here")
    return changed


def refuse_random_trunk(config: Config, out: Path, learns: bool, steps: str) -> None:
    """Refuses to begin a run whose trunk would stay as random as it starts.

    Args:
        config: Of the run.
        out: Its folder; a run that has begun may go on.
        learns: Whether the trunk learns the tags first.
        steps: The setting that makes it do so.

    Raises:
        ValueError: Neither weights nor such steps.
    """
    if config.model.weights is None and not learns and not any(out.glob("*.pt")):
        raise ValueError(
            "model.weights: expected ImageNet weights (--weights FILE, or torchvision), or "
            f"{steps} above 0 for a trunk that learns from the tags; got neither"
        )
