"""Multi-task: several questions about the same pictures, one backbone, a head for each.

    graft train multitask --data table.csv --tasks kind colour price:regression:0.5 --out runs/things
    python recipes/multitask.py --data table.csv --tasks kind colour --compare-single --out runs/things

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

from graft.recipes.runs.image_settings import ImageConfig


@dataclass(frozen=True)
class Config(ImageConfig):
    """Train one backbone for several tasks."""

    data: str
    """A .csv, .tsv or .jsonl table with a path and a column for each task (and, if it has one, a
    column split).
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
    from graft.recipes.data import answers, splits, tasks
    from graft.recipes.report import report
    from graft.recipes.runs import run, task_run, text_run, workspace
    from graft.recipes.train import divergence, fit, schedule
    from graft.zoo.backbones import build as backbones
    from graft.zoo.backbones import table as backbone_table
    from graft.zoo.errors import ConfigError
    from graft.zoo.graph.stack import stack
    from graft.zoo.graph.state import set_weights
    from graft.zoo.heads.heads import Tasks
    from graft.zoo.quiet import load_tensorflow
    from graft.zoo.terminal import say

    config.check()
    given = tasks.parse(config.tasks)
    tasks.check(config.fit)
    if config.weighting == "uncertainty" and any(task.weight != 1 for task in given):
        raise ConfigError(
            "--weighting uncertainty finds the weights by itself: leave those in --tasks away"
        )
    row = backbone_table.find_backbone(config.backbone)
    spec = schedule.weights_for(
        config.schedule, config.weights, backbone_table.default_weights(row)
    )
    phases = schedule.resolve(config.schedule, config.epochs, config.learning_rate)
    source, made = splits.complete(
        tasks.load(config.data, given, path_column=config.path_column), config.split_seed
    )
    answers.check_splits(source, given)
    fingerprint = splits.fingerprint(source)
    heads = tasks.heads_of(given, source, config.dropout)
    fixed = None if config.weighting == "uncertainty" else tuple(task.weight for task in given)
    together = Tasks(heads, fixed, balanced=config.weighting == "gradnorm")
    size = config.image_size or row.image_size

    def build(head=together, spec: str = spec):
        return stack(
            backbones.build_backbone(row, image_size=size, weights=spec),
            head if head is together else [head],
        )

    if workspace.finished(config.out, run.plain(config)):
        return config.out
    with workspace.workspace(config.out, run.plain(config), fingerprint) as folder:
        load_tensorflow()
        described = fit.describe_phases(build(), phases)
        duplicates = splits.warn_of_concerns(
            source, fingerprint, config.backbone, config.split_seed
        )
        images = task_run.decode_splits(source, heads, size, config.skip_bad)
        say(
            schedule.table(
                f"{config.schedule} of {row.name} ({spec})", described, config.fit.budget
            )
        )
        seeds, store = (
            range(config.seed, config.seed + config.seeds),
            workspace.store_beside(config.out),
        )

        def train(name: str, head, images, phases=phases, settings=config.fit):
            model, trained = fit.train(
                lambda: build(head),
                head,
                phases,
                images,
                seeds,
                settings,
                store=store,
                folder=folder,
                name=name,
            )
            outputs = fit.predict(model, images["test"], [result.weights for result in trained])
            figures = [tasks.figures(head.heads, output, images["test"]) for output in outputs]
            return trained, figures, tasks.unit_scores(head.heads, outputs, images["test"])

        trained, measured, units = train("together", together, images)
        arms = {"together": trained}
        sharing = []
        for head in heads if config.compare_single else ():
            own = task_run.alone(images, head)
            length = task_run.as_long(phases, config.fit, images["train"], own["train"])
            called = divergence.ALONE.format(task=head.name)
            arms[called], single, single_units = train(called, head, own, *length)
            pair = units[head.name], single_units[head.name]
            sharing.append(task_run.sharing(head, measured, single, pair))
        best = fit.best_of(trained)
        model = build(spec="none")
        set_weights(model, best.weights)
        facts = {
            "recipe": "multitask",
            **run.environment(),
            "config": run.plain(config),
            **run.shipped(best, config.schedule, described),
            "backbone": run.describe_backbone(row, spec, model),
            "data": task_run.describe_data(
                source, images, heads, made, config.split_seed, fingerprint, duplicates
            ),
            **task_run.judged(heads, measured),
            "trainings": divergence.trainings(arms),
            "verdict": None,
            "sharing": sharing,
        }
        task_run.write(folder, model, heads, given, images, best.history, facts)
        report.write(folder)
    text_run.summarize(config.out)
    return config.out


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.run import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
