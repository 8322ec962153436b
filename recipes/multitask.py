r"""Multi-task: several questions about the same images, one backbone, a head for each.

    graft train multitask --data table.csv --tasks kind colour price:regression:0.5 \
        --out runs/things
    python recipes/multitask.py --data table.csv --tasks kind colour --compare-single \
        --out runs/things

One table: a column `path` and a column for each task; an empty cell is an answer that is not known,
    and counts nothing
(Caruana 1997, doi:10.1023/A:1007379606734). Losses count by fixed weights, by what the model learns
of uncertainty (Kendall et al. 2018, arXiv:1705.07115), or so that all tasks learn at one pace
(GradNorm, Chen et al. 2018, arXiv:1711.02257). With `--compare-single` a model for each task is
trained beside it, in as many updates, and the run says of each whether sharing helped.

Expected results: digit and speaker of 3,000 recordings lost 3.3 and 3.8 points together
    (`benchmarks/spoken_digits.py`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from graft.recipes.runs.options import ImageConfig


@dataclass(frozen=True)
class Config(ImageConfig):
    """Train one backbone for several tasks."""

    data: str
    """A table (.csv, .jsonl, .parquet, ...) or .tar files with a path and a column for each task
    (and, if it has one, a column split).
    """
    tasks: tuple[str, ...] = ()
    """NAME[=COLUMN][:KIND[:WEIGHT]] each; the kind is single_label, multi_label (labels separated
    by ";") or regression.
    """
    weighting: Literal["fixed", "uncertainty", "gradnorm"] = "fixed"
    """What the tasks' losses count: what --tasks says, or what is found while training."""
    compare_single: bool = False
    """Also train a model for each task, in as many updates (more epochs where cells are empty), and
    write whether sharing helped.
    """
    dropout: float = 0.2
    """Before the heads, 0 to 1."""
    seeds: int = 1
    """Train so many times, with consecutive seeds; the run keeps the one whose best epoch has the
    best validation figure (the loss of all tasks, by which epochs are chosen).
    """
    split_seed: int = 0
    """For splits that are missing in the data and have to be made; stratified by the first task
    that chooses one label.
    """


def main(config: Config) -> Path:
    """Train, evaluate, write the run directory and print the outcome; returns the directory."""
    from graft.recipes.codecs import decoding
    from graft.recipes.data.prepared import PreparedData
    from graft.recipes.runs import experiment
    from graft.recipes.runs.backbones import ImageBackbone
    from graft.recipes.runs.supervised import Supervised
    from graft.recipes.tasks import answers, columns
    from graft.zoo.errors import ConfigError

    config.check()
    asked = columns.parse_columns(config.tasks, config.dropout)
    config.fit.check_several_tasks()
    if config.weighting == "uncertainty" and any(column.weight != 1 for column in asked):
        raise ConfigError(
            "--weighting uncertainty finds the weights by itself: leave those in --tasks away"
        )
    backbone = ImageBackbone.chosen(config)
    phases = backbone.phases(config)
    source = columns.load_task_table(config.data, asked, path_column=config.path_column)
    decoding.know(config, source)
    data = PreparedData.of(source, config)
    answers.check_splits(data.source, asked)
    tasks = columns.tasks_of_table(
        data.source,
        asked,
        learned=config.weighting == "uncertainty",
        balanced=config.weighting == "gradnorm",
    )
    training = Supervised(alone=config.compare_single)
    problem = experiment.Problem("multitask", data, tasks, backbone, phases, training)
    return experiment.run(problem, config)


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.writing import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
