"""Multi-task text: one encoder, an intent for the sentence and slots for its words.

    graft train text-multitask --data commands --out runs/commands

Both heads train at once (Caruana 1997, doi:10.1023/A:1007379606734; Chen et al. 2019,
arXiv:1902.10909). Losses are weighted by `--task-weights`, or by what the model learns of the
uncertainty of each task (Kendall et al. 2018, arXiv:1705.07115). With `--compare-single` a model
for each task is trained beside it, and the run says whether sharing helped.

Expected results: benchmarks/results/text.md.
"""

from dataclasses import dataclass
from pathlib import Path

from graft.recipes.runs.options import TextConfig


@dataclass(frozen=True)
class Config(TextConfig):
    """Train one encoder for intents and slots."""

    schedule: str = "full"
    """feature_extraction, fine_tune, gradual_unfreeze, probe_then_tune, full, lora, bias or
    scratch.
    """
    task_weights: tuple[float, float] = (1.0, 1.0)
    """What the losses of intent and slots count."""
    uncertainty: bool = False
    """Let the model learn these weights."""
    compare_single: bool = False
    """Also train a model for the intent and one for the slots, and write whether sharing helped."""


def main(config: Config) -> Path:
    """Train, evaluate, write the run directory and print the outcome; returns the directory."""
    from graft.recipes.data import sentences
    from graft.recipes.data.prepared import PreparedData
    from graft.recipes.runs import experiment
    from graft.recipes.runs.backbones import TextBackbone
    from graft.recipes.runs.supervised import Supervised
    from graft.recipes.tasks.group import Tasks
    from graft.recipes.tasks.labels import SingleLabelTask
    from graft.recipes.tasks.tagging import TaggingTask
    from graft.zoo.errors import ConfigError
    from graft.zoo.heads import heads

    if config.uncertainty and config.task_weights != (1.0, 1.0):
        raise ConfigError("--uncertainty finds the weights by itself: leave --task-weights away")
    config.check()
    backbone = TextBackbone.chosen(config)
    source = sentences.load(config.data, need=("label", "tags"), columns=config.columns)
    data = PreparedData.of(source, config)
    of_intent, of_slots = config.task_weights
    intent = heads.single_label(data.labels, name="intent", dropout=config.dropout)
    slots = heads.tags(sentences.tag_names(source), name="slots", dropout=config.dropout)
    both = SingleLabelTask(intent, weight=of_intent), TaggingTask(slots, weight=of_slots)
    tasks = Tasks(both, learned=config.uncertainty)
    training = Supervised(config.compare_scratch, config.compare_single)
    config.check_tasks(tasks)
    phases = backbone.phases(config, len(data.splits["train"]))
    problem = experiment.Problem("text-multitask", data, tasks, backbone, phases, training)
    return experiment.run(problem, config)


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.writing import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
