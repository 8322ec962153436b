"""Semi-supervised learning: a few labelled pictures of each class, many without labels, one classifier.

    graft train semi-supervised --data photos/ --per-class 10 --out runs/photos
    python recipes/semi_supervised.py --data photos/ --unlabelled more/ --out runs/photos

A model is trained on the labelled pictures alone (supervised_only), and with each of `--methods` on both: pseudo_label
(Lee 2013) takes the labels that the model is sure of, fixmatch (Sohn et al. 2020, arXiv:2001.07685) learns them from
strongly changed versions. The kept model has the best accuracy on labelled validation pictures.

Expected results: benchmarks/results/adaptation.md.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import OmitArgPrefixes

from recipes.engine.settings import FitSettings

METHODS = ("pseudo_label", "fixmatch")


@dataclass(frozen=True)
class Config:
    """Train an image classifier on few labelled and many unlabelled pictures."""

    data: str
    """A folder of class folders (or of splits), a table, tfds:NAME, or a built-in name."""
    out: Path
    """The run directory to make."""
    per_class: int | None = None
    """Use the labels of so many training pictures of each class only (drawn by --split-seed); the others have none."""
    unlabelled: str | None = None
    """More pictures without labels: a folder, a table, tfds:NAME, or a built-in name."""
    methods: tuple[str, ...] = METHODS
    """pseudo_label, fixmatch."""
    strength: float = 1.0
    """What the methods' losses count beside that of the labelled pictures."""
    threshold: float | None = None
    """How sure a label has to be to be learned from, 0 to 1. Default: the method's own."""
    backbone: str = "mobilenet_v2"
    """A name from `graft zoo`, or a .keras file."""
    weights: str | None = None
    """imagenet, bundled, none, or a path to a weights file. Default: imagenet; those in a .keras file."""
    schedule: str = "fine_tune"
    """feature_extraction, fine_tune, gradual_unfreeze, probe_then_tune, full or scratch. Methods act in its last phase."""
    updates: int = 300
    """Steps that each phase has at least: few labelled pictures make short epochs."""
    learning_rate: float | None = None
    """Peak rate of the last phase; the other phases are scaled alike. Default: the schedule's own."""
    image_size: int | None = None
    """Height and width in pixels. Default: the backbone's."""
    dropout: float = 0.2
    """Before the head, 0 to 1."""
    fit: OmitArgPrefixes[FitSettings] = field(default_factory=lambda: FitSettings(augment=("flip", "crop")))
    seeds: int = 1
    """Train so many times, with consecutive seeds."""
    seed: int = 0
    """The first (or only) seed."""
    split_seed: int = 0
    """For splits that have to be made, and for which labels are used."""
    skip_bad: bool = False
    """Leave unreadable pictures out and count them, instead of stopping."""
    path_column: str = "path"
    label_column: str = "label"
    """The columns of a table."""
    overwrite: bool = False
    """Replace an existing run directory, once the new one is complete."""
    resume: bool = False
    """Go on with a run that was interrupted, after its last finished epoch."""


def main(config: Config) -> Path:
    """Train, choose, measure, write the run directory and print the outcome; returns the directory."""
    from recipes.adapt import catalogue, compare, domains, outcome
    from recipes.engine import fit, report, run, schedule, splits, workspace
    from recipes.engine.progress import say
    from zoo import backbones, heads
    from zoo.quiet import load_tensorflow
    from zoo.stack import stack

    config.fit.check()
    catalogue.check(config.methods, METHODS, config.strength, config.threshold)
    row = backbones.find(config.backbone)
    spec = "none" if config.schedule == "scratch" else config.weights or backbones.default_weights(row)
    pair = domains.load_partly_labelled(config)
    steps = max(1, len(pair.source.splits["train"]) // config.fit.batch_size)
    phases = schedule.lengthened(schedule.resolve(config.schedule, None, config.learning_rate), steps, config.updates)
    head = heads.single_label(pair.source.labels, dropout=config.dropout)
    size = config.image_size or row.image_size

    def build(spec: str = spec):
        return stack(backbones.build(row, image_size=size, weights=spec), [head])

    if workspace.finished(config.out, run.plain(config)):
        return config.out
    with workspace.workspace(config.out, run.plain(config), pair.content) as folder:
        load_tensorflow()
        described = fit.describe_phases(build(), phases)
        duplicates = splits.warn_of_concerns(pair.source)
        images, _ = domains.decode(pair, size, config.skip_bad)
        say(schedule.table(f"{config.schedule} of {row.name} ({spec})", described, config.fit.budget))
        seeds = range(config.seed, config.seed + config.seeds)
        plan = compare.Plan(
            "supervised_only", config.methods, config.strength, config.threshold, phases, seeds, config.fit
        )
        found = compare.train(plan, build, head, images, workspace.store_beside(config.out), folder)
        model = build("none")
        chosen, adaptation = outcome.decide(
            folder, found, model, images, images["test"], "labelled", head.labels, "test"
        )
        own = {split: images[split] for split in pair.source.splits}
        facts = outcome.facts_of("semi-supervised", config, described, found, chosen, adaptation) | {
            "backbone": run.describe_backbone(row, spec, model),
            "data": run.describe_data(pair.source, own, pair.made, config.split_seed, pair.fingerprint, duplicates)
            | {"target": domains.describe(pair, images, None)},
        }
        run.write_classifier(folder, model, head, images, chosen.history, facts)
    report.write(config.out)
    outcome.summarize(config.out)
    return config.out


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
