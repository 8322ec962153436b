r"""Domain adaptation: labelled images of one kind, unlabelled ones of another, a model for the
other.

    graft train domain-adaptation --data catalogue/ --target photos/ \
        --methods cdan pseudo_label --out runs/photos
    python recipes/domain_adaptation.py --data catalogue/ --target photos/ --out runs/photos

A model is trained on the labelled source alone (source_only), and with each of `--methods` beside
it on the target without labels: dann, cdan, coral, mmd, pseudo_label and fixmatch learn from both
in every step, adabn and tent adapt what source_only gave (papers: `recipes/adapt/catalogue.py`).
Validation labels are the source's, and the epoch that is best for it is not the best one for the
target: of every training, source_only's too, the last epoch is kept. The model that the run keeps
is chosen without a label of the target (`--select`). Where the target has labels, `--target-labels`
measures every method on them, for the report only.

Expected results: benchmarks/results/adaptation.md.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import OmitArgPrefixes

from graft.recipes.adapt.selection import Criterion
from graft.recipes.runs.options import ImageConfig
from graft.recipes.train.settings import FitSettings


@dataclass(frozen=True)
class Config(ImageConfig):
    """Train an image classifier for a domain that has no labels."""

    data: str
    """The labelled source: a folder of class folders (or of splits), a table, shards, tfds:NAME,
    hf:NAME, or a built-in name.
    """
    target: str = ""
    """The target: a folder of images, a table, shards, tfds:NAME, hf:NAME, or a built-in name.
    Labels are not looked at.
    """
    methods: tuple[str, ...] = ("cdan", "pseudo_label", "adabn")
    """dann, cdan, coral, mmd, pseudo_label, fixmatch, adabn, tent."""
    select: Criterion = "information"
    """What the kept model is chosen by: information about the target, or accuracy on validation
    examples of the source, weighted by how much they look like the target (iwv) or not
    (labelled).
    """
    target_labels: bool = False
    """Measure on the target's labels (those of its test split, if it has splits). Nothing is
    trained or chosen by them.
    """
    strength: float = 1.0
    """What the methods' losses count beside that of the labelled source."""
    threshold: float | None = None
    """How sure a label has to be to be learned from, 0 to 1. Default: the method's own."""
    hidden: int = 0
    """Units in a layer before the last one; 0: none. With feature_extraction it is what can
    adapt.
    """
    dropout: float = 0.0
    """Before the head, 0 to 1."""
    fit: OmitArgPrefixes[FitSettings] = field(
        default_factory=lambda: FitSettings(augment=("crop",))
    )
    seeds: int = 1
    """Train so many times, with consecutive seeds."""
    split_seed: int = 0
    """For splits that are missing in the source and have to be made."""
    label_column: str = "label"
    """The columns of a table."""


def main(config: Config) -> Path:
    """Train, adapt, choose, measure, write the run directory and print the outcome; returns the
    directory.
    """
    from graft.recipes.adapt import catalogue, compare, domains
    from graft.recipes.adapt.methods_compared import MethodsCompared
    from graft.recipes.runs import experiment
    from graft.recipes.runs.backbones import ImageBackbone
    from graft.recipes.tasks.group import Tasks
    from graft.recipes.tasks.labels import SingleLabelTask
    from graft.zoo.errors import ConfigError
    from graft.zoo.heads import heads

    config.check()
    config.fit.refuse("mixed_precision", "adaptation")
    catalogue.check(config.methods, tuple(catalogue.METHODS), config.strength, config.threshold)
    catalogue.check_length(config.fit)
    if not config.target:
        raise ConfigError("--target is missing: the images without labels that the model is for")
    backbone = ImageBackbone.chosen(config)
    catalogue.check_channels(config.methods, backbone.shape.channels)
    phases = backbone.phases(config)
    catalogue.check_reach(config.methods, phases, config.hidden)
    data = domains.load(config)
    head = heads.single_label(data.labels, dropout=config.dropout, hidden=config.hidden)
    tasks = Tasks((SingleLabelTask(head),))
    # No validation data of the target say which epoch is best there: of every training the last one
    # is kept.
    asked = (config.methods, config.strength, config.threshold)
    plan = compare.Plan("source_only", *asked, keep="last")
    training = MethodsCompared(plan, config.select, "target", calibration="unlabelled")
    problem = experiment.Problem("domain-adaptation", data, tasks, backbone, phases, training)
    return experiment.run(problem, config)


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.writing import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
