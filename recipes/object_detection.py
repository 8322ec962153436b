"""Object detection: images with boxes in, a model that finds things and names them out.

    graft train object-detection --data cells/ --out runs/cells
    python recipes/object_detection.py --data cells/ --out runs/cells

A small pyramid with one guess a cell (Tian et al. 2019, arXiv:1904.01355) on the feature maps of a
pretrained backbone, trained through a freezing schedule with task-aligned assignment (Feng et al.
2021, arXiv:2108.07755), quality focal loss (Li et al. 2020, arXiv:2006.04388) and GIoU. Files hold
the suppression of overlapping boxes.

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


@dataclass(frozen=True)
class Config(ImageConfig):
    """Train a model that finds things and names them."""

    data: str
    """A folder with COCO's annotations/instances_*.json, of Pascal VOC or of YOLO; a table
    path,label,x0,y0,x1,y1; or the built-in `shapes`.
    """
    channels: int = 64
    """Of the head's convolutions."""
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
    best mAP50 of the validation images.
    """
    split_seed: int = 0
    """For splits that are missing in the data and have to be made."""
    compare_scratch: bool = False
    """Also train from random weights for as many epochs, and write the verdict."""


def main(config: Config) -> Path:
    """Train, evaluate, write the run directory and print the outcome; returns the directory."""
    from graft.recipes.runs.supervised import run_scenes
    from graft.recipes.tasks.dense.boxes import BoxTask
    from graft.zoo.heads import heads

    def task(labels: tuple[str, ...], size: tuple[int, int]) -> BoxTask:
        return BoxTask(heads.boxes(labels, image_size=size, channels=config.channels), "boxes")

    return run_scenes("object-detection", config, BoxTask, task)


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.writing import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
