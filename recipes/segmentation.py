"""Segmentation: images with masks in, a model that names the class of each pixel out.

    graft train segmentation --data nuclei/ --out runs/nuclei
    python recipes/segmentation.py --data nuclei/ --out runs/nuclei

A decoder on the feature maps of a pretrained backbone, Lite R-ASPP (Howard et al. 2019,
arXiv:1905.02244) or step by step as in U-Net (Ronneberger et al. 2015, arXiv:1505.04597), trained
through a freezing schedule by cross-entropy and Dice.

Expected results: benchmarks/results/dense.md.
"""

from dataclasses import dataclass
from pathlib import Path

from graft.recipes.runs.options import SceneConfig
from graft.zoo.heads.masks.masks import Joining


@dataclass(frozen=True)
class Config(SceneConfig):
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
    seeds: int = 1
    """Train so many times, with consecutive seeds; the run keeps the one whose best epoch has the
    best mean IoU of the validation images.
    """


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
