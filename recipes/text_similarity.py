"""Text similarity: sentences with labels in, a model out whose vectors are near where meanings are
alike.

    graft train text-similarity --data questions.csv --out runs/questions

The head is a vector of length 1, trained with the supervised contrastive loss (Khosla et al. 2020,
arXiv:2004.11362): within a batch, sentences of one label draw near and others apart. Measured is
retrieval: how often the nearest other sentence has the same label (recall at 1), and how often one
of the nearest five has.

Expected results: not measured yet.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import OmitArgPrefixes

from graft.recipes.runs.options import TextConfig
from graft.recipes.train.settings import FitSettings


@dataclass(frozen=True)
class Config(TextConfig):
    """Train an embedding of sentences from a pretrained encoder."""

    dimension: int = 64
    """Numbers in a vector."""
    temperature: float = 0.1
    """Of the loss: the lower, the more the nearest strangers count."""
    dropout: float = 0.0
    """Before the last layer, 0 to 1."""
    fit: OmitArgPrefixes[FitSettings] = field(
        default_factory=lambda: FitSettings(batch_size=128, weight_decay=0.01, clip_norm=1.0)
    )


def main(config: Config) -> Path:
    """Train, evaluate, write the run directory and print the outcome; returns the directory."""
    from graft.recipes.data import sentences
    from graft.recipes.data.prepared import PreparedData
    from graft.recipes.runs import experiment
    from graft.recipes.runs.backbones import TextBackbone
    from graft.recipes.runs.supervised import Supervised
    from graft.recipes.tasks.group import Tasks
    from graft.recipes.tasks.vectors import EmbeddingTask
    from graft.zoo.heads import heads

    config.check()
    backbone = TextBackbone.chosen(config)
    source = sentences.load(config.data, need=("label",), columns=config.columns)
    data = PreparedData.of(source, config)
    head = heads.embedding(config.dimension, temperature=config.temperature, dropout=config.dropout)
    tasks = Tasks((EmbeddingTask(head, names=data.labels),))
    training = Supervised(config.compare_scratch)
    config.check_tasks(tasks)
    phases = backbone.phases(config, len(data.splits["train"]))
    problem = experiment.Problem("text-similarity", data, tasks, backbone, phases, training)
    return experiment.run(problem, config)


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.writing import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
