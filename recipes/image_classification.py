"""Image classification: a folder of images in, a trained and verified model out.

    graft train image-classification --data photos/ --out runs/photos
    python recipes/image_classification.py --data photos/ --out runs/photos

A pretrained backbone gets a new head and is trained through a freezing schedule (Yosinski et al.
2014, arXiv:1411.1792; Kornblith et al. 2019, arXiv:1805.08974). With `--compare-scratch` the same
architecture is trained from random weights for the same number of epochs, and the run says what
transfer gained or lost.

Expected results: benchmarks/results/clothing_small.md.
"""

from dataclasses import dataclass
from pathlib import Path

from graft.recipes.runs.options import ImageConfig


@dataclass(frozen=True)
class Config(ImageConfig):
    """Train an image classifier from a pretrained backbone."""

    blocks: int | None = None
    """Blocks that the last phase trains, from the top. Default: the schedule's own."""
    layer_decay: float | None = None
    """Each block learns at this share of the rate of the one above it. Default: the schedule's
    own.
    """
    dropout: float = 0.2
    """Before the head, 0 to 1."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    per_class: int | None = None
    """Train on so many images of each class only (drawn by --split-seed)."""
    fraction: float | None = None
    """Train on this share of the training images only, of each class alike (drawn by
    --split-seed).
    """
    seeds: int = 1
    """Train so many times, with consecutive seeds; the run keeps the one whose best epoch has the
    best validation figure (the loss, by which epochs are chosen).
    """
    split_seed: int = 0
    """For splits that are missing in the data and have to be made."""
    compare_scratch: bool = False
    """Also train from random weights for as many epochs, and write the verdict."""
    label_column: str = "label"
    """The columns of a table."""


def main(config: Config) -> Path:
    """Train, evaluate, write the run directory and print the outcome; returns the directory."""
    from graft.recipes.codecs import decoding
    from graft.recipes.data import sources
    from graft.recipes.data.prepared import PreparedData
    from graft.recipes.runs import experiment
    from graft.recipes.runs.backbones import ImageBackbone
    from graft.recipes.runs.supervised import Supervised
    from graft.recipes.tasks.group import Tasks
    from graft.recipes.tasks.labels import SingleLabelTask
    from graft.zoo.heads import heads

    config.check()
    backbone = ImageBackbone.chosen(config)
    phases = backbone.phases(config)
    source = sources.load(
        config.data, path_column=config.path_column, label_column=config.label_column
    )
    decoding.know(config, source)
    data = PreparedData.of(source, config)
    head = heads.single_label(
        data.labels, dropout=config.dropout, label_smoothing=config.label_smoothing
    )
    tasks, training = Tasks((SingleLabelTask(head),)), Supervised(config.compare_scratch)
    problem = experiment.Problem("image-classification", data, tasks, backbone, phases, training)
    return experiment.run(problem, config)


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.writing import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
