"""What a run is judged by: the figures at the top of its report and of its card, each with its task
and the data that it was measured on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.export.intervals import wilson
from graft.recipes.report.run_file import figures_by_task, task_figures
from graft.recipes.report.wording import as_measured, percent

__all__ = ["Measure", "adapts_to_target", "heads_of", "lead", "measured_split", "measures"]

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """One figure of a run.

    Attributes:
        where: the data: "test", "validation", "target" or "source test".
        task: the name of the task, "" where there is one alone.
        name: of the figure: "accuracy", "R²", ...
        key: of the figure in run.json.
        value: at most 1; None where there were too few examples.
        examples: how many it was measured on.
        interval: 95 % interval of an accuracy, else None.
        by_seed: the figure of each seed.
    """

    where: str
    task: str
    name: str
    key: str
    value: float | None
    examples: int
    interval: tuple[float, float] | None
    by_seed: tuple[float, ...]

    @property
    def title(self) -> str:
        """ "Test accuracy", "Test intent accuracy", "Source test accuracy"."""
        words = " ".join(filter(None, (self.where, self.task, self.name)))
        return words[:1].upper() + words[1:]


def heads_of(facts: Tree) -> list[Tree]:
    """`{"name", "key"}` of the figure that each task is judged by."""
    return [task["figure"] for task in facts["tasks"].values()]


def measured_split(facts: Tree) -> str | None:
    """The split that the figures of the page are of: test, else validation, else None."""
    return next((name for name in ("test", "validation") if facts["metrics"].get(name)), None)


def adapts_to_target(facts: Tree) -> bool:
    """Whether the model is for other data than those of its test split, which are the source's."""
    return facts.get("adaptation", {}).get("measured_on") == "target"


def measures(facts: Tree) -> list[Measure]:
    """The figures of a run.json, the first one the headline: of the target where the model is for
    one.
    """
    split = measured_split(facts)
    if split is None:
        return []
    where = f"source {split}" if adapts_to_target(facts) else split
    metrics = facts["metrics"][split]
    tasks = task_figures(metrics).items()
    found = [
        _measure(where, task, head, measured, _by_seed(facts, split, task, head["key"]))
        for (task, measured), head in zip(tasks, heads_of(facts), strict=True)
    ]
    return [*_of_target(facts), *found]


def lead(facts: Tree, found: Sequence[Measure], noun: str) -> str:
    """One or two sentences with the headline of `found`, the figures of `measures`."""
    if not found:
        return f"Nothing was measured on held-out {noun}s."
    if not adapts_to_target(facts):
        return _said(found, noun)
    kept = facts["adaptation"]["chosen"]["method"]
    target, source = (
        [m for m in found if m.where == "target"],
        [m for m in found if m.where != "target"],
    )
    if target:
        return (
            f"{_said(target, noun)} The kept model ({kept}) was chosen without their labels. "
            f"{_said(source, noun)}"
        )
    return (
        f"How accurate the model is on the target is not known: no label of the target was given. "
        f"On the labelled source: {_lower(_said(source, noun))}"
    )


def _said(found: Sequence[Measure], noun: str) -> str:
    first = found[0]
    examples = f"{first.examples:,} {first.where} {noun}{'' if first.examples == 1 else 's'}"
    if len(found) == 1 and first.interval:
        low, high = first.interval
        return (
            f"Of {examples}, {percent(first.value)} were labelled correctly "
            f"(95\u202f% interval {100 * low:.1f} to {percent(high)})."
        )
    # Where cells of the table are empty, tasks have answers for a part of the images only.
    alike = len({measure.examples for measure in found}) == 1
    parts = [
        " ".join(
            filter(
                None,
                (
                    m.task,
                    m.name,
                    as_measured(m.value, m.key),
                    "" if alike else _answers(m.examples),
                ),
            )
        )
        for m in found
    ]
    return f"On {examples if alike else f'{first.where} {noun}s'}: {', '.join(parts)}."


def _answers(count: int) -> str:
    return f"({count:,} answer{'' if count == 1 else 's'})"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _measure(where: str, task: str, head: Tree, measured: Tree, by_seed: Sequence) -> Measure:
    value, count = measured[head["key"]], measured["examples"]
    shares = head["key"] == "accuracy" and count and value is not None
    interval = wilson(value, count) if shares else None
    known = tuple(seed for seed in by_seed if seed is not None)
    return Measure(where, task, head["name"], head["key"], value, count, interval, known)


def _by_seed(facts: Tree, split: str, task: str, key: str) -> list:
    if split != "test":
        return []
    return [
        figures_by_task(figures["tasks"])[task][key] for figures in facts.get("test_by_seed", ())
    ]


def _of_target(facts: Tree) -> list[Measure]:
    """The kept model's figure on the labels of the target, where they were given."""
    if not adapts_to_target(facts):
        return []
    adaptation, chosen = facts["adaptation"], facts["adaptation"]["chosen"]
    rows = [row for row in adaptation["rows"] if row["method"] == chosen["method"]]
    kept = next(row for row in rows if row["seed"] == chosen["seed"])
    if kept["accuracy"] is None:
        return []
    measured = {"accuracy": kept["accuracy"], "examples": facts["data"]["target"]["measured"]}
    head = {"name": "accuracy", "key": "accuracy"}
    return [_measure("target", "", head, measured, [row["accuracy"] for row in rows])]
