"""Training from files to checkpoint: what `labelpenet train` calls."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from labelpenet.config import Config
from labelpenet.data import ProposalStore, check_for_training, load_dataset
from labelpenet.files import locked
from labelpenet.labeler import store_proposals
from labelpenet.models.backbones import build_backbone
from labelpenet.report.training import LOSSES, write_training_page
from labelpenet.training.engine import Engine
from labelpenet.training.errors import TrainingError, refuse
from labelpenet.training.log import event_writer
from labelpenet.training.resume import refuse_random_trunk
from labelpenet.training.trainer import FORWARD_BACKWARD, Trainer


def train_cascade(
    config: Config,
    source: Path,
    out: Path,
    *,
    split: str | None = None,
    proposals: Path | None = None,
    until: int = FORWARD_BACKWARD,
    device: str = "cpu",
    console: Console | None = None,
) -> Path:
    """Reads a dataset, computes its proposals where none are given, and trains.

    Args:
        config: All settings.
        source: As load_dataset takes it.
        out: The run's folder; proposals are kept in it.
        split: Part of the dataset.
        proposals: A proposal store; None computes one.
        until: Last stage to train: 1 to 4 for a module, 5 for forward-backward learning.
        device: Where it runs; see Engine.
        console: Where progress goes; None is silent.

    Returns:
        The last checkpoint.

    Raises:
        TrainingError: Images that cannot be used, all listed.
        CheckpointError: A folder that was started with other settings, photos, tags, proposals or
            weights.
        OutputError: The folder cannot be made, or another process trains in it.
        ValueError: train.tensorboard without its extra, no such device, or neither weights nor
            steps of the trunk.
        WeightsError: The weights file is missing, broken or of another network.
    """
    if config.train.tensorboard:
        event_writer()  # what is not installed shows now, not after the proposals
    dataset = load_dataset(source, split=split)
    refuse(check_for_training(dataset))
    engine = Engine(config, device)
    with locked(out) if engine.rank == 0 else nullcontext():
        engine.wait()
        refuse_random_trunk(config, out, bool(config.train.trunk_steps), "train.trunk_steps")
        if config.model.weights is not None and not any(out.glob("module*.pt")):
            build_backbone(config.model)  # a broken file shows now, not after the proposals
        if proposals is None:
            proposals = out / "proposals.parquet"
            if engine.rank == 0:
                result = store_proposals(dataset, proposals, config, console=console)
                refuse([f"{e.name}: {e.reason}" for e in result.errors])
            engine.wait()
        trainer = Trainer(config, dataset, ProposalStore.open(proposals), out, console, engine)
        trainer.run(until)
        if engine.rank == 0 and (out / LOSSES).exists():
            write_training_page(out)
    return trainer.checkpoint(trainer.done)


__all__ = ["TrainingError", "train_cascade"]
