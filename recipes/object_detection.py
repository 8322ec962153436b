"""Object detection: images with boxes in, a model that finds things and names them out.

    graft train object-detection --data cells/ --out runs/cells
    python recipes/object_detection.py --data cells/ --out runs/cells

A small pyramid with one guess a cell (Tian et al. 2019, arXiv:1904.01355) on the feature maps of a
pretrained backbone, trained through a freezing schedule with task-aligned assignment (Feng et al.
2021, arXiv:2108.07755), quality focal loss (Li et al. 2020, arXiv:2006.04388) and GIoU. Files hold
the suppression of overlapping boxes.

Expected results: benchmarks/results/dense.md.
"""

from dataclasses import dataclass
from pathlib import Path

from graft.recipes.runs.options import SceneConfig


@dataclass(frozen=True)
class Config(SceneConfig):
    """Train a model that finds things and names them."""

    data: str
    """A folder with COCO's annotations/instances_*.json, of Pascal VOC or of YOLO; a table
    path,label,x0,y0,x1,y1; or the built-in `shapes`.
    """
    channels: int = 64
    """Of the head's convolutions."""
    seeds: int = 1
    """Train so many times, with consecutive seeds; the run keeps the one whose best epoch has the
    best mAP50 of the validation images.
    """


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
