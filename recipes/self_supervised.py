"""Self-supervised learning: many pictures without labels, a backbone that knows them better.

    graft train self-supervised --data pile/ --out runs/pile
    graft train image-classification --backbone runs/pile/backbone.keras --data labelled/ --out runs/photos

SimCLR (Chen et al. 2020, arXiv:2002.05709): the model learns which two differently changed versions
are of one picture, by the normalized temperature-scaled cross-entropy over the batch, behind a
projection head that is thrown away. It begins with pretrained weights, so that a few hundred
pictures are enough to move it. The run also sorts the pictures: crowds (k-means), nearest
neighbours and a map, in report.html and clusters.csv.

Expected results (`benchmarks/self_supervised.py digits`, three seeds): a backbone that knew print,
after 898 handwritten digits without labels and fine-tuned on ten labels a class: 0.884 (0.882 to
0.888); without them 0.876 (0.872 to 0.880).
"""

from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import OmitArgPrefixes

from graft.recipes.runs.image_settings import ImageConfig
from graft.recipes.train.settings import FitSettings

EPOCHS = 30


@dataclass(frozen=True)
class Config(ImageConfig):
    """Adapt a backbone to pictures without labels."""

    data: str
    """A folder of pictures, a table, tfds:NAME, or a built-in name. Labels are not looked at."""
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
    """Train, look at the pictures, write the run directory and print the outcome; returns the
    directory.
    """
    import json

    from graft.recipes.adapt import domains, gallery, pretext
    from graft.recipes.data import reading
    from graft.recipes.runs import run, workspace
    from graft.recipes.train import divergence, fit, schedule
    from graft.zoo.backbones import build as backbones
    from graft.zoo.backbones import table as backbone_table
    from graft.zoo.files.staging import staged_file
    from graft.zoo.files.writing import write_text
    from graft.zoo.graph.stack import backbone_of, stack
    from graft.zoo.heads import heads
    from graft.zoo.quiet import load_tensorflow
    from graft.zoo.terminal import say, tell

    config.check()
    pretext.check(config.fit)
    pretext.check_head(config.dimension, config.temperature)
    row = backbone_table.find_backbone(config.backbone)
    spec = schedule.weights_for(
        config.schedule, config.weights, backbone_table.default_weights(row)
    )
    phases = schedule.resolve(
        config.schedule, EPOCHS if config.epochs is None else config.epochs, config.learning_rate
    )
    pretext.check_reach(phases)
    pile = domains.load_pile(config)
    gallery.check(config.clusters, len(pile.pictures))
    head = heads.embedding(
        config.dimension, temperature=config.temperature, hidden=row.feature_dim or 256
    )
    size = config.image_size or row.image_size

    def build(spec: str = spec):
        return stack(backbones.build_backbone(row, image_size=size, weights=spec), [head])

    if workspace.finished(config.out, run.plain(config)):
        return config.out
    with workspace.workspace(config.out, run.plain(config), pile.fingerprint) as folder:
        load_tensorflow()
        import keras

        described = fit.describe_phases(build(), phases)
        images = domains.decode_pile(pile, size, config.skip_bad, config.seed)
        gallery.check(config.clusters, len(images["all"]))  # some may have been left out
        keras.utils.set_random_seed(
            config.seed
        )  # the backbone that is looked at is the one that training begins with
        model = build()
        before = pretext.figures(model, images, config.fit)
        say(
            schedule.table(
                f"{config.schedule} of {row.name} ({spec})", described, config.fit.budget
            )
        )
        model, (trained,) = fit.train(
            build, head, phases, images, [config.seed], config.fit, folder=folder, pairs=True
        )
        after = pretext.figures(model, images, config.fit)
        features = pretext.features(model, images["all"])
        seen = gallery.look(features, config.clusters, config.seed)
        facts = {
            "schema": run.SCHEMA,
            "recipe": "self-supervised",
            **run.environment(),
            "config": run.plain(config),
            **run.shipped(trained, config.schedule, described),
            "backbone": run.describe_backbone(row, spec, model),
            "data": {
                "source": config.data,
                "fingerprint": pile.fingerprint,
                "pictures": len(images["all"]),
                "skipped": list(images["all"].skipped),
                **reading.record(pile, {"all": images["all"]}),
            },
            "out": str(config.out),
            **pretext.compared(before, after, images),
            "clusters": {"count": len(seen.typical), "silhouette": seen.silhouette},
            "trainings": divergence.trainings({"self-supervised": [trained]}),
        }
        facts |= run.concerns(facts, {}, [])
        with staged_file(folder / "backbone.keras") as path:
            backbone_of(model).save(path)
        run.write_history(folder, trained.history)
        gallery.write(folder, seen, images["all"], facts, config.seed)
        write_text(folder / "run.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    tell(facts["said"])
    tell(f"backbone: {config.out / 'backbone.keras'}\nreport: {config.out / 'report.html'}")
    return config.out


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.run import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
