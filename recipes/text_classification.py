r"""Text classification: a table of sentences in, a trained and verified model out.

    graft train text-classification --data reviews.csv --out runs/reviews
    python recipes/text_classification.py --data reviews.csv --backbone all-MiniLM-L6-v2/ \
        --out runs/reviews

The mean of an encoder's token vectors gets a new head (Devlin et al. 2019, arXiv:1810.04805;
Reimers and Gurevych 2019, arXiv:1908.10084) and is trained through a freezing schedule, low-rank
additions or biases alone. With `--compare-scratch` the same architecture is trained from random
weights, and the run says what transfer gained or lost.

Expected results: benchmarks/results/text.md.
"""

from dataclasses import dataclass
from pathlib import Path

from graft.recipes.runs.options import TextConfig


@dataclass(frozen=True)
class Config(TextConfig):
    """Train a text classifier from a pretrained encoder."""

    multi_label: bool = False
    """A text may have any number of labels, separated by ";" in its cell."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""


def main(config: Config) -> Path:
    """Train, evaluate, write the run directory and print the outcome; returns the directory."""
    from graft.recipes.data import sentences
    from graft.recipes.data.prepared import PreparedData
    from graft.recipes.runs import experiment
    from graft.recipes.runs.backbones import TextBackbone
    from graft.recipes.runs.supervised import Supervised
    from graft.recipes.tasks.group import Tasks
    from graft.recipes.tasks.labels import MultiLabelTask, SingleLabelTask
    from graft.zoo.heads import heads

    config.check()
    backbone = TextBackbone.chosen(config)
    source = sentences.load(
        config.data, need=("label",), columns=config.columns, several=config.multi_label
    )
    data = PreparedData.of(source, config)
    if config.multi_label:
        head = heads.multi_label(data.labels, dropout=config.dropout)
        tasks = Tasks((MultiLabelTask(head, "labels"),))
    else:
        head = heads.single_label(
            data.labels, dropout=config.dropout, label_smoothing=config.label_smoothing
        )
        tasks = Tasks((SingleLabelTask(head),))
    config.check_tasks(tasks)
    training = Supervised(config.compare_scratch)
    phases = backbone.phases(config, len(data.splits["train"]))
    problem = experiment.Problem("text-classification", data, tasks, backbone, phases, training)
    return experiment.run(problem, config)


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.writing import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
