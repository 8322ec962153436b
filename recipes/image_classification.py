"""Image classification: a folder of photos in, a trained and verified model out.

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

from graft.recipes.runs.image_settings import ImageConfig


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
    """Train on so many pictures of each class only (drawn by --split-seed)."""
    fraction: float | None = None
    """Train on this share of the training pictures only, of each class alike (drawn by
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
    import numpy as np

    from graft.recipes.codecs import hints, images
    from graft.recipes.data import sources, splits
    from graft.recipes.report import report
    from graft.recipes.runs import run, workspace
    from graft.recipes.tasks import evaluation
    from graft.recipes.train import divergence, fit, optimizer, schedule
    from graft.zoo.backbones import build as backbones
    from graft.zoo.backbones import table as backbone_table
    from graft.zoo.graph.stack import stack
    from graft.zoo.graph.state import set_weights
    from graft.zoo.heads import heads
    from graft.zoo.quiet import load_tensorflow
    from graft.zoo.terminal import say

    config.check()
    row = backbone_table.find_backbone(config.backbone)
    spec = schedule.weights_for(
        config.schedule, config.weights, backbone_table.default_weights(row)
    )
    phases = schedule.resolve(
        config.schedule, config.epochs, config.learning_rate, config.layer_decay, config.blocks
    )
    source = sources.load(
        config.data, path_column=config.path_column, label_column=config.label_column
    )
    source, made = splits.complete(source, config.split_seed)
    fingerprint = splits.fingerprint(source)
    source = splits.take(source, config.per_class, config.fraction, config.split_seed)
    head = heads.single_label(
        source.labels, dropout=config.dropout, label_smoothing=config.label_smoothing
    )
    size = config.image_size or row.image_size

    def build(spec: str, mixed: bool = config.fit.mixed_precision):
        with optimizer.precision(mixed):
            return stack(backbones.build_backbone(row, image_size=size, weights=spec), [head])

    if workspace.finished(config.out, run.plain(config)):
        return config.out
    with workspace.workspace(config.out, run.plain(config), fingerprint) as folder:
        load_tensorflow()
        described = fit.describe_phases(build(spec), phases)
        duplicates = splits.warn_of_concerns(
            source, fingerprint, config.backbone, config.split_seed
        )
        store = workspace.store_beside(config.out)
        pixels = images.decode_splits(source, size, skip_bad=config.skip_bad)
        hinted = hints.class_weights(head, pixels["train"].targets, config.fit)
        say(
            schedule.table(
                f"{config.schedule} of {row.name} ({spec})", described, config.fit.budget
            )
        )
        seeds = range(config.seed, config.seed + config.seeds)

        def train(name: str, spec: str, phases):
            model, trained = fit.train(
                lambda: build(spec),
                head,
                phases,
                pixels,
                seeds,
                config.fit,
                store=store,
                folder=folder,
                name=name,
            )
            outputs = fit.predict(model, pixels["test"], [result.weights for result in trained])
            units = [
                evaluation.unit_scores(head, output, pixels["test"].targets) for output in outputs
            ]
            return trained, np.stack(units)

        trained, units = train("transfer", spec, phases)
        arms = {"transfer": trained}
        accuracies = units.mean(-1).tolist()
        verdict = None
        if config.compare_scratch:
            arms["scratch"], rival_units = train(
                "scratch", "none", schedule.resolve("scratch", sum(p.epochs for p in phases))
            )
            seconds = ([t.seconds for t in trained], [t.seconds for t in arms["scratch"]])
            verdict = evaluation.verdict(
                accuracies, rival_units.mean(-1), seconds, (units, rival_units)
            )
        best = fit.best_of(trained)
        model = build("none", mixed=False)
        set_weights(model, best.weights)
        facts = {
            "recipe": "image-classification",
            **run.environment(),
            "config": run.plain(config),
            **run.shipped(best, config.schedule, described),
            "backbone": run.describe_backbone(row, spec, model),
            "data": run.describe_data(
                source, pixels, made, config.split_seed, fingerprint, duplicates
            )
            | {"hints": hinted},
            "test_accuracy_by_seed": accuracies,
            "trainings": divergence.trainings(arms),
            "verdict": verdict,
        }
        run.write_units(folder, units)
        run.write_classifier(folder, model, head, pixels, best.history, facts)
        report.write(folder)
    run.summarize(config.out)
    return config.out


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.run import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
