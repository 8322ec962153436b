"""Segmentation: images with masks in, a model that names the class of each pixel out.

    graft train segmentation --data nuclei/ --out runs/nuclei
    python recipes/segmentation.py --data nuclei/ --out runs/nuclei

A decoder on the feature maps of a pretrained backbone, Lite R-ASPP (Howard et al. 2019,
arXiv:1905.02244) or step by step as in U-Net (Ronneberger et al. 2015, arXiv:1505.04597), trained
through a freezing schedule by cross-entropy and Dice.

Expected results: benchmarks/results/dense.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tyro.conf import OmitArgPrefixes

from graft.recipes.runs.options import ImageConfig
from graft.recipes.train.schedule import DENSE_SCHEDULES, Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.heads.masks.masks import Joining


@dataclass(frozen=True)
class Config(ImageConfig):
    """Train a model that names the class of each pixel."""

    data: str
    """A folder of images/ and masks/ (or labels/: index or colour PNG, or an object a number), of
    COCO's annotations/instances_*.json with outlines, or the built-in `shapes`.
    """
    decoder: Joining = "unet"
    """unet: step by step from the coarsest level to the finest; lraspp: classes from each level,
    added up, with fewer parameters.
    """
    channels: int = 64
    """Of the decoder's maps."""
    dice: float = 1.0
    """What 1 - Dice counts beside the cross-entropy of pixels."""
    schedules: ClassVar[Mapping[str, tuple[Phase, ...]]] = DENSE_SCHEDULES
    fit: OmitArgPrefixes[FitSettings] = field(
        default_factory=lambda: FitSettings(
            batch_size=16, weight_decay=0.02, clip_norm=10.0, augment=("flip", "crop")
        )
    )
    blocks: int | None = None
    """Blocks that the last phase trains, from the top. Default: the schedule's own."""
    layer_decay: float | None = None
    """Each block learns at this share of the rate of the one above it. Default: the schedule's
    own.
    """
    fraction: float | None = None
    """Train on this share of the training images only (drawn by --split-seed)."""
    seeds: int = 1
    """Train so many times, with consecutive seeds; the run keeps the one whose best epoch has the
    best mean IoU of the validation images.
    """
    split_seed: int = 0
    """For splits that are missing in the data and have to be made."""
    compare_scratch: bool = False
    """Also train from random weights for as many epochs, and write the verdict."""


def main(config: Config) -> Path:
    """Train, evaluate, write the run directory and print the outcome; returns the directory."""
    from graft.recipes.runs.supervised import run_scenes
    from graft.recipes.tasks.dense.masks import MaskTask, mask_labels
    from graft.zoo.heads import heads
    from graft.zoo.heads.masks.masks import Decoder

    def task(labels: tuple[str, ...], size: tuple[int, int]) -> MaskTask:
        decoder = Decoder(config.decoder, channels=config.channels)
        return MaskTask(heads.masks(labels, decoder=decoder, dice=config.dice), "mask")

    return run_scenes("segmentation", config, MaskTask, task, mask_labels)


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.writing import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
