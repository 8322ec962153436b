"""Semi-supervised learning: a few labelled images of each class, many without labels, one
classifier.

    graft train semi-supervised --data photos/ --per-class 10 --out runs/photos
    python recipes/semi_supervised.py --data photos/ --unlabelled more/ --out runs/photos

A model is trained on the labelled images alone (supervised_only), and with each of `--methods` on
both: pseudo_label (Lee 2013) takes the labels that the model is sure of, fixmatch (Sohn et al.
2020, arXiv:2001.07685) learns them from strongly changed versions. Of every training,
supervised_only's too, the best epoch on the labelled validation images is kept, all of which have
labels, and they choose the model. The test images choose nothing.

Expected results: benchmarks/results/adaptation.md (ten labels a class of clothing_small to train
    on: 0.461, with fixmatch
0.543).
"""

from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import OmitArgPrefixes

from graft.recipes.runs.options import ImageConfig
from graft.recipes.train.settings import FitSettings

METHODS = ("pseudo_label", "fixmatch")


@dataclass(frozen=True)
class Config(ImageConfig):
    """Train an image classifier on few labelled and many unlabelled images."""

    data: str
    """A folder of class folders (or of splits), a table, shards, tfds:NAME, hf:NAME, or a built-in
    name.
    """
    per_class: int | None = None
    """Use the labels of so many training images of each class only (drawn by --split-seed); the
    others have none.
    """
    unlabelled: str | None = None
    """More images without labels: a folder, a table, shards, tfds:NAME, hf:NAME, or a built-in
    name.
    """
    fit: OmitArgPrefixes[FitSettings] = field(
        default_factory=lambda: FitSettings(augment=("flip", "crop"))
    )
    methods: tuple[str, ...] = METHODS
    """pseudo_label, fixmatch."""
    strength: float = 1.0
    """What the methods' losses count beside that of the labelled images."""
    threshold: float | None = None
    """How sure a label has to be to be learned from, 0 to 1. Default: the method's own."""
    updates: int = 300
    """Steps that each phase has at least: few labelled images make short epochs. Not beside
    --epochs.
    """
    dropout: float = 0.2
    """Before the head, 0 to 1."""
    seeds: int = 1
    """Train so many times, with consecutive seeds."""
    split_seed: int = 0
    """For splits that have to be made, and for which labels are used."""
    label_column: str = "label"
    """The columns of a table."""


def main(config: Config) -> Path:
    """Train, choose, measure, write the run directory and print the outcome; returns the
    directory.
    """
    from graft.recipes.adapt import catalogue, compare, domains
    from graft.recipes.adapt.methods_compared import MethodsCompared
    from graft.recipes.runs import experiment
    from graft.recipes.runs.backbones import ImageBackbone
    from graft.recipes.tasks.group import Tasks
    from graft.recipes.tasks.labels import SingleLabelTask
    from graft.recipes.train import schedule
    from graft.zoo.errors import ConfigError
    from graft.zoo.heads import heads

    config.check()
    config.fit.refuse("mixed_precision", "adaptation")
    catalogue.check(config.methods, METHODS, config.strength, config.threshold)
    if config.updates < 1:
        raise ConfigError(f"--updates is a number of steps, 1 or more, not {config.updates}")
    if config.epochs is not None and config.updates != Config.updates:
        raise ConfigError("--epochs and --updates both say how long to train: choose one of them")
    backbone = ImageBackbone.chosen(config)
    catalogue.check_channels(config.methods, backbone.shape.channels)
    data = domains.load_partly_labelled(config)
    phases = backbone.phases(config)
    if config.epochs is None:
        steps = max(1, len(data.splits["train"]) // config.fit.batch_size)
        phases = schedule.lengthened(phases, steps, config.updates)
    head = heads.single_label(data.labels, dropout=config.dropout)
    tasks = Tasks((SingleLabelTask(head),))
    asked = (config.methods, config.strength, config.threshold)
    training = MethodsCompared(compare.Plan("supervised_only", *asked), "labelled", "test")
    problem = experiment.Problem("semi-supervised", data, tasks, backbone, phases, training)
    return experiment.run(problem, config)


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.writing import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
