"""Semi-supervised learning: a few labelled pictures of each class, many without labels, one
classifier.

    graft train semi-supervised --data photos/ --per-class 10 --out runs/photos
    python recipes/semi_supervised.py --data photos/ --unlabelled more/ --out runs/photos

A model is trained on the labelled pictures alone (supervised_only), and with each of `--methods` on
both: pseudo_label (Lee 2013) takes the labels that the model is sure of, fixmatch (Sohn et al.
2020, arXiv:2001.07685) learns them from strongly changed versions. Of every training,
supervised_only's too, the best epoch on the labelled validation pictures is kept, all of which have
labels, and they choose the model. The test pictures choose nothing.

Expected results: benchmarks/results/adaptation.md (ten labels a class of clothing_small to train
    on: 0.461, with fixmatch
0.543).
"""

from dataclasses import dataclass
from pathlib import Path

from graft.recipes.runs.image_settings import ImageConfig

METHODS = ("pseudo_label", "fixmatch")


@dataclass(frozen=True)
class Config(ImageConfig):
    """Train an image classifier on few labelled and many unlabelled pictures."""

    data: str
    """A folder of class folders (or of splits), a table, tfds:NAME, or a built-in name."""
    per_class: int | None = None
    """Use the labels of so many training pictures of each class only (drawn by --split-seed); the
    others have none.
    """
    unlabelled: str | None = None
    """More pictures without labels: a folder, a table, tfds:NAME, or a built-in name."""
    methods: tuple[str, ...] = METHODS
    """pseudo_label, fixmatch."""
    strength: float = 1.0
    """What the methods' losses count beside that of the labelled pictures."""
    threshold: float | None = None
    """How sure a label has to be to be learned from, 0 to 1. Default: the method's own."""
    updates: int = 300
    """Steps that each phase has at least: few labelled pictures make short epochs. Not beside
    --epochs.
    """
    dropout: float = 0.2
    """Before the head, 0 to 1."""
    seeds: int = 1
    """Train so many times, with consecutive seeds."""
    split_seed: int = 0
    """For splits that have to be made, and for which labels are used."""
    label_column: str = "label"
    """The columns of a table."""


def main(config: Config) -> Path:
    """Train, choose, measure, write the run directory and print the outcome; returns the
    directory.
    """
    from graft.recipes.adapt import catalogue, compare, domains, outcome
    from graft.recipes.codecs import hints
    from graft.recipes.data import splits
    from graft.recipes.report import report
    from graft.recipes.runs import run, workspace
    from graft.recipes.train import fit, schedule
    from graft.zoo.backbones import build as backbones
    from graft.zoo.backbones import table as backbone_table
    from graft.zoo.errors import ConfigError
    from graft.zoo.graph.stack import stack
    from graft.zoo.heads import heads
    from graft.zoo.quiet import load_tensorflow
    from graft.zoo.terminal import say

    config.check()
    config.fit.refuse("mixed_precision", "adaptation")
    catalogue.check(config.methods, METHODS, config.strength, config.threshold)
    if config.updates < 1:
        raise ConfigError(f"--updates is a number of steps, 1 or more, not {config.updates}")
    if config.epochs is not None and config.updates != Config.updates:
        raise ConfigError("--epochs and --updates both say how long to train: choose one of them")
    row = backbone_table.find_backbone(config.backbone)
    spec = schedule.weights_for(
        config.schedule, config.weights, backbone_table.default_weights(row)
    )
    pair = domains.load_partly_labelled(config)
    steps = max(1, len(pair.source.splits["train"]) // config.fit.batch_size)
    phases = schedule.resolve(config.schedule, config.epochs, config.learning_rate)
    if config.epochs is None:
        phases = schedule.lengthened(phases, steps, config.updates)
    head = heads.single_label(pair.source.labels, dropout=config.dropout)
    size = config.image_size or row.image_size

    def build(spec: str = spec):
        return stack(backbones.build_backbone(row, image_size=size, weights=spec), [head])

    if workspace.finished(config.out, run.plain(config)):
        return config.out
    with workspace.workspace(config.out, run.plain(config), pair.content) as folder:
        load_tensorflow()
        described = fit.describe_phases(build(), phases)
        duplicates = splits.warn_of_concerns(
            pair.source, pair.fingerprint, config.backbone, config.split_seed
        )
        images, _ = domains.decode(pair, size, config.skip_bad)
        hinted = hints.class_weights(head, images["train"].targets, config.fit)
        say(
            schedule.table(
                f"{config.schedule} of {row.name} ({spec})", described, config.fit.budget
            )
        )
        seeds = range(config.seed, config.seed + config.seeds)
        plan = compare.Plan(
            "supervised_only",
            config.methods,
            config.strength,
            config.threshold,
            phases,
            seeds,
            config.fit,
        )
        store = workspace.store_beside(config.out, config.fit.cache)
        found = compare.train(plan, build, head, images, store, folder)
        model = build("none")
        chosen, adaptation = outcome.decide(
            folder, found, model, images, images["test"], "labelled", head.labels, "test", store
        )
        own = {split: images[split] for split in pair.source.splits}
        facts = outcome.facts_of(
            "semi-supervised", config, described, found, chosen, adaptation
        ) | {
            "backbone": run.describe_backbone(row, spec, model),
            "data": run.describe_data(
                pair.source, own, pair.made, config.split_seed, pair.fingerprint, duplicates
            )
            | {"target": domains.describe(pair, images, None), "hints": hinted},
        }
        run.write_classifier(folder, model, head, images, chosen.history, facts)
        report.write(folder)
    outcome.summarize(config.out)
    return config.out


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.run import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
