"""Learning from labels: a training with all seeds, and beside it one from random weights and a
model for each task alone, to say what transfer and sharing gained.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graft.recipes.codecs import decoding
from graft.recipes.codecs.examples import Examples
from graft.recipes.data.prepared import PreparedData
from graft.recipes.data.records import Source
from graft.recipes.data.scenes import places
from graft.recipes.feed.pipeline import Order
from graft.recipes.report import wording
from graft.recipes.report.run_file import figures_by_task, read_run
from graft.recipes.runs import divergence, experiment
from graft.recipes.runs.backbones import ImageBackbone
from graft.recipes.runs.problem import Arm, Experiment, Outcome
from graft.recipes.tasks import verdicts
from graft.recipes.tasks.group import Tasks
from graft.recipes.tasks.task import Task
from graft.recipes.train import schedule
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ConfigError
from graft.zoo.files.guards import one_line_if_damaged
from graft.zoo.fits import STRETCH
from graft.zoo.terminal import tell, warn

__all__ = ["Supervised", "run_scenes"]


@dataclass(frozen=True)
class Supervised:
    """What is trained.

    Attributes:
        scratch: also from random weights, for as long; the run says what transfer gained.
        alone: also a model for each task by itself, in as many updates; the run says whether
            sharing helped.
    """

    scratch: bool = False
    alone: bool = False

    def __call__(self, experiment: Experiment) -> Outcome:
        """Train; kept is the seed with the best validation figure."""
        tasks, phases = experiment.problem.tasks, experiment.problem.phases
        arms = {"transfer": experiment.train("transfer", experiment.plan(phases))}
        verdict = None
        if self.scratch:
            arms["scratch"] = _from_scratch(experiment)
            verdict = _verdict(experiment, arms["transfer"], arms["scratch"])
        sharing = []
        for task in tasks if self.alone else ():
            called = divergence.ALONE.format(task=task.name)
            arms[called] = _by_itself(experiment, called, task)
            sharing.append(_sharing(task, arms["transfer"], arms[called]))
        own = arms["transfer"]
        headlines = [tasks.headline(figures) for figures in own.figures]
        facts = {
            "test_accuracy_by_seed": [value for value in headlines if value is not None],
            "test_by_seed": [_without_labels(figures) for figures in own.figures],
            "trainings": divergence.trainings({name: arm.trained for name, arm in arms.items()}),
            "verdict": verdict,
            "sharing": sharing,
        }
        units = own.units[tasks.first.name] if len(tasks) == 1 else None
        kept, outputs = own.kept()
        # What trains in half precision answers otherwise than the file, which is float32.
        outputs = None if experiment.config.fit.mixed_precision else outputs
        return Outcome(kept, facts, units, outputs=outputs)

    def tell(self, folder: Path) -> None:
        """Print what the run in `folder` is judged by, verdicts, where things are."""
        content = read_run(folder)
        with one_line_if_damaged(Path(folder) / "run.json"):
            _tell_outcome(Path(folder), content)


def run_scenes(
    recipe: str,
    config: Any,
    kind: type[Task],
    task_for: Callable[[tuple[str, ...], tuple[int, int]], Task],
    labels_of: Callable[[Source], tuple[str, ...]] = lambda source: source.labels,
) -> Path:
    """Train on scenes; returns the run directory.

    Args:
        recipe: its name.
        config: its Config.
        kind: of the task; says what of a scene it needs.
        task_for: (labels, height and width of the model's images) -> the task.
        labels_of: what is told apart in a source.

    Raises:
        GraftError: whatever is wrong with the request or the data.
    """
    config.check()
    if config.image_fit != STRETCH:
        raise ConfigError(
            f"--fit {config.image_fit} is for labels of whole images: boxes and masks stay where "
            "they are with stretch alone; leave it away"
        )
    backbone = ImageBackbone.chosen(config)
    phases = backbone.phases(config)
    source = places.load(config.data, need=kind.need or None)
    decoding.know(config, source)
    data = PreparedData.of(source, config)
    task = task_for(labels_of(data.source), (backbone.shape.height, backbone.shape.width))
    training = Supervised(config.compare_scratch)
    problem = experiment.Problem(recipe, data, Tasks((task,)), backbone, phases, training)
    return experiment.run(problem, config)


def _from_scratch(experiment: Experiment) -> Arm:
    problem = experiment.problem
    phases = problem.backbone.scratch(experiment.config, problem.phases)
    return experiment.train("scratch", experiment.plan(phases, weights="none"))


def _verdict(experiment: Experiment, transfer: Arm, scratch: Arm) -> dict | None:
    """What transfer gained over training from scratch."""
    tasks = experiment.problem.tasks
    ours, theirs = (
        [tasks.headline(figures) for figures in arm.figures] for arm in (transfer, scratch)
    )
    if None in (*ours, *theirs):
        warn("too few test examples to say whether transfer helps: no verdict")
        return None
    pair = transfer.mean_units, scratch.mean_units
    seconds = (
        [result.seconds for result in transfer.trained],
        [result.seconds for result in scratch.trained],
    )
    units = None if any(part is None for part in pair) else pair
    return verdicts.verdict(ours, theirs, seconds, units)


def _by_itself(experiment: Experiment, called: str, task: Task) -> Arm:
    """A model for one task, on the examples whose answer to it is known."""
    tasks, examples = experiment.alone(task.name)
    phases, settings = _as_long(experiment, examples["train"])
    plan = replace(experiment.plan(phases, tasks), settings=settings)
    return experiment.train(called, plan, examples)


def _as_long(experiment: Experiment, own: Examples) -> tuple[tuple[Phase, ...], FitSettings]:
    """Phases and settings for a training on the examples `own`, fewer than those of all tasks: of
    so many more epochs that it has as many updates, or a task with few answers would be compared
    with a model of its own that hardly learned.
    """
    settings, phases = experiment.config.fit, experiment.problem.phases
    of_all, steps = (
        Order(len(part), settings.batch_size, 0).steps
        for part in (experiment.examples["train"], own)
    )
    longer = tuple(
        schedule.lengthened([phase], steps, phase.epochs * of_all)[0] for phase in phases
    )
    return longer, replace(settings, patience=-(-settings.patience * of_all // steps))


def _sharing(task: Task, together: Arm, alone: Arm) -> dict:
    """Whether a task gained from the others."""
    shared, own = (
        [task.stated(figures["tasks"][task.name]) for figures in arm.figures]
        for arm in (together, alone)
    )
    pair = together.units[task.name], alone.units[task.name]
    return verdicts.sharing(task.name, task.kind.key, shared, own, pair)


def _without_labels(figures: Mapping) -> dict:
    """The same without those label by label, of which there may be thousands."""
    kept = {key: value for key, value in figures.items() if key != "per_class"}
    if "tasks" in figures:
        kept["tasks"] = {name: _without_labels(own) for name, own in figures["tasks"].items()}
    return kept


def _tell_outcome(folder: Path, content: Mapping) -> None:
    measured = figures_by_task(content["metrics"]["test"]["tasks"])
    judged = [facts["figure"] for facts in content["tasks"].values()]
    by_seed: Sequence[Mapping] = [
        figures_by_task(figures["tasks"]) for figures in content["test_by_seed"]
    ]
    for (name, figures), figure in zip(measured.items(), judged, strict=True):
        value, key = figures[figure["key"]], figure["key"]
        shown = "not known" if value is None else f"{value:.3f}"
        text = f"test {name + ' ' if name else ''}{figure['name']} {shown}"
        if len(by_seed) > 1 and value is not None:
            values = [of[name][key] for of in by_seed]
            known = [value for value in values if value is not None]
            text += f" (seed {content['seed']}; {len(known)} seeds: mean "
            text += f"{sum(known) / len(known):.3f}, {min(known):.3f} to {max(known):.3f})"
        tell(text)
        further = wording.further_text(figures, key)
        if further:
            tell(further)
    for said in filter(
        None, [content["verdict"], *content.get("sharing", ()), content.get("counted_words")]
    ):
        tell(said["text"])
    tell(f"report: {folder / 'report.html'}")
