"""Pretrain the bundled backbone: a small MobileNetV2 on printed characters, from random weights.

    graft train pretrain-glyphs --out build/glyphs
    python recipes/pretrain_glyphs.py --out build/glyphs

It makes `mobilenet_v2_0.35.weights.h5` (backbone without head, float16), golden tensors and
`figures.json`; the card in zoo/bundled/ quotes the figures. Architecture: Sandler et al. 2018,
arXiv:1801.04381. What it is for: a demonstration of transfer that needs no download, on images of
characters. Expected result: see zoo/bundled/mobilenet_v2_0.35.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Config:
    """Pretrain a small backbone on rendered characters."""

    out: Path
    """The folder to make."""
    backbone: str = "mobilenet_v2_0.35"
    """A name from `graft zoo`."""
    examples: int = 32_000
    """How many characters to render for training."""
    epochs: int = 8
    image_size: int = 64
    """Height and width in pixels."""
    batch_size: int = 64
    learning_rate: float = 3e-3
    """Peak rate of AdamW."""
    weight_decay: float = 0.01
    seed: int = 0
    overwrite: bool = False
    """Replace the folder if it exists."""


def main(config: Config) -> Path:
    """Render, train, measure on new images and on fonts never seen, write; returns the folder."""
    import json

    import numpy as np

    from graft.recipes.codecs.images import Images
    from graft.recipes.data.builtin import glyphs
    from graft.recipes.runs import run_facts
    from graft.recipes.tasks import verdicts
    from graft.recipes.tasks.table import tasks_for
    from graft.recipes.train import fit, schedule
    from graft.recipes.train.settings import FitSettings, check_numbers
    from graft.zoo.backbones import build as backbones
    from graft.zoo.backbones import table as backbone_table
    from graft.zoo.backbones import weights
    from graft.zoo.files import leases
    from graft.zoo.files.staging import staged_folder
    from graft.zoo.graph.stack import backbone_of, stack
    from graft.zoo.graph.state import set_weights
    from graft.zoo.heads import heads
    from graft.zoo.quiet import load_tensorflow
    from graft.zoo.terminal import say

    check_numbers(config)
    row = backbone_table.find_backbone(config.backbone)
    load_tensorflow()
    head = heads.single_label(glyphs.CLASSES, dropout=0.1)
    phases = (
        schedule.Phase("pretrain", "all", config.epochs, config.learning_rate, batch_norm="train"),
    )

    def render(count: int, seed: int, **options: Any) -> Images:
        pixels, classes = glyphs.render(count, seed, config.image_size, **options)
        targets = {head.name: np.eye(len(glyphs.CLASSES), dtype=np.float32)[classes]}
        return Images(pixels, targets, tuple(map(str, range(count))))

    def build() -> "keras.Model":
        return stack(
            backbones.build_backbone(row, image_size=config.image_size, weights="none"), [head]
        )

    with leases.hold_lease(config.out), staged_folder(config.out, config.overwrite) as folder:
        say(f"rendering {config.examples:,} characters of {len(glyphs.CLASSES)} classes")
        pixels = {
            "train": render(config.examples, 4 * config.seed),
            "validation": render(2000, 4 * config.seed + 1),
        }
        held_out = {
            "new images": render(4000, 4 * config.seed + 2),
            "new fonts": render(4000, 4 * config.seed + 3, fonts=glyphs.HELD_OUT_FONTS),
        }
        model = build()
        say(schedule.table(f"{row.name} on glyphs", fit.describe_phases(model, phases)))
        settings = FitSettings(batch_size=config.batch_size, weight_decay=config.weight_decay)
        model, (trained,) = fit.train(
            fit.TrainPlan(build, tasks_for(head), phases, [config.seed], settings), pixels
        )

        path = folder / f"{row.name}.weights.h5"
        weights.save_float16(backbone_of(model), path)
        # What is measured is what is shipped: the backbone as it comes back from the float16 file.
        model = build()
        set_weights(model, trained.weights)
        backbone = backbones.build_backbone(row, image_size=config.image_size, weights=str(path))
        set_weights(backbone_of(model), backbone.get_weights())
        inputs = held_out["new images"].pixels[:4]
        np.savez_compressed(
            folder / f"{row.name}.golden.npz",
            inputs=inputs,
            features=backbone(np.float32(inputs)).numpy().mean((1, 2)),
        )
        figures = {
            "accuracy": {
                name: verdicts.accuracy(fit.predict(model, images)[0], images.targets[head.name])
                for name, images in held_out.items()
            },
            "train_seconds": round(trained.seconds),
            "size_bytes": path.stat().st_size,
            "config": run_facts.plain(config),
            **run_facts.environment(),
            **weights.describe_weights(row, str(path)),
        }
        (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures["accuracy"]), f"{figures['train_seconds']} s", config.out)
    return config.out


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
