r"""Self-supervised learning: many images without labels, a backbone that knows them better.

    graft train self-supervised --data pile/ --out runs/pile
    graft train image-classification --backbone runs/pile/backbone.keras --data labelled/ \
        --out runs/photos

SimCLR (Chen et al. 2020, arXiv:2002.05709): the model learns which two differently changed versions
are of one image, by the normalized temperature-scaled cross-entropy over the batch, behind a
projection head that is thrown away. It begins with pretrained weights, so that a few hundred
images are enough to move it. The run also sorts the images: crowds (k-means), nearest
neighbours and a map, in report.html and clusters.csv.

Expected results (`benchmarks/self_supervised.py digits`, three seeds): a backbone that knew print,
after 898 handwritten digits without labels and fine-tuned on ten labels a class: 0.884 (0.882 to
0.888); without them 0.876 (0.872 to 0.880).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import OmitArgPrefixes

from graft.recipes.runs.options import ImageConfig
from graft.recipes.train.settings import FitSettings

if TYPE_CHECKING:
    import keras

EPOCHS = 30


@dataclass(frozen=True)
class Config(ImageConfig):
    """Adapt a backbone to images without labels."""

    data: str
    """A folder of images, a table, shards, tfds:NAME, hf:NAME, or a built-in name. Labels are not
    looked at.
    """
    labels: bool = False
    """Say in the report how often nearest neighbours share the label; nothing is trained or chosen
    by it.
    """
    clusters: int | None = None
    """Crowds to find. Default: the number from 2 to 20 that separates them best."""
    epochs: int | None = None
    """Epochs in total, spread over the schedule's phases. Default: 30, or as many as --budget
    leaves time for.
    """
    dimension: int = 64
    """Numbers in a projected vector, 2 or more."""
    temperature: float = 0.2
    """Of the loss: the lower, the more the nearest strangers count."""
    fit: OmitArgPrefixes[FitSettings] = field(
        default_factory=lambda: FitSettings(
            batch_size=64, augment=("flip", "zoom", "color", "grayscale")
        )
    )
    label_column: str = "label"
    """The columns of a table."""


def main(config: Config) -> Path:
    """Train, look at the images, write the run directory and print the outcome; returns the
    directory.
    """
    from graft.recipes.adapt import domains, gallery, pretext
    from graft.recipes.runs import run_facts, workspace
    from graft.recipes.runs.backbones import ImageBackbone
    from graft.recipes.tasks.group import Tasks
    from graft.recipes.tasks.vectors import EmbeddingTask
    from graft.recipes.train import fit, schedule
    from graft.zoo.graph.stack import stack
    from graft.zoo.graph.state import set_seed
    from graft.zoo.heads import heads
    from graft.zoo.quiet import load_tensorflow
    from graft.zoo.terminal import say, tell

    config.check()
    pretext.check(config.fit)
    pretext.check_head(config.dimension, config.temperature)
    backbone = ImageBackbone.chosen(config)
    epochs = EPOCHS if config.epochs is None else config.epochs
    phases = schedule.resolve(config.schedule, epochs, config.learning_rate)
    pretext.check_reach(phases)
    pile = domains.load_pile(config)
    gallery.check(config.clusters, len(pile.images))
    head = heads.embedding(
        config.dimension, temperature=config.temperature, hidden=backbone.row.feature_dim or 256
    )
    tasks = Tasks((EmbeddingTask(head, names=pile.labels),))

    def build() -> "keras.Model":
        return stack(backbone.build(), tasks.heads)

    if workspace.finished(config.out, run_facts.plain(config)):
        return config.out
    with workspace.workspace(config.out, run_facts.plain(config), pile.fingerprint) as folder:
        load_tensorflow()
        described = fit.describe_phases(build(), phases)
        images = domains.decode_pile(pile, backbone.codec(build(), config), tasks, config.seed)
        gallery.check(config.clusters, len(images["all"]))  # some may have been left out
        # The backbone that is looked at is the one that training begins with.
        set_seed(config.seed)
        model = build()
        before = pretext.figures(model, images, tasks.first, config.fit)
        title = f"{config.schedule} of {backbone.name} ({backbone.weights})"
        say(schedule.table(title, described, config.fit.budget))
        plan = fit.TrainPlan(build, tasks, phases, [config.seed], config.fit, pairs=True)
        model, (trained,) = fit.train(plan, images, folder=folder)
        after = pretext.figures(model, images, tasks.first, config.fit)
        facts = pretext.facts_of(config, backbone, model, trained, described)
        facts |= pretext.compared(before, after, images)
        pretext.write(folder, model, pile, images, facts | {"out": str(config.out)}, trained)
    tell(facts["said"])
    tell(f"backbone: {config.out / 'backbone.keras'}\nreport: {config.out / 'report.html'}")
    return config.out


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.writing import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
