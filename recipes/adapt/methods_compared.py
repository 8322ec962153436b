"""Learning from unlabelled examples too: every method and none, and the choice among them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graft.recipes.adapt import compare, outcome
from graft.recipes.adapt.selection import Criterion
from graft.recipes.runs import divergence
from graft.recipes.runs.problem import Experiment, Outcome

__all__ = ["MethodsCompared"]


@dataclass(frozen=True)
class MethodsCompared:
    """What is trained for a run that learns from unlabelled examples; see `runs/experiment.py`.

    Attributes:
        plan: the methods.
        select: what the kept model is chosen by.
        where: what the examples are that the model is for: "target", or "test" where they are those
            of the test split.
        calibration: the examples by which int8 files are calibrated.
    """

    plan: compare.Plan
    select: Criterion
    where: str
    calibration: str = "train"

    def __call__(self, experiment: Experiment) -> Outcome:
        """Train the baseline and every method, measure, choose."""
        examples: Mapping = experiment.examples
        if self.where != outcome.TARGET:
            examples = {**examples, "measured": examples[self.where]}
        how = experiment.plan(experiment.problem.phases)
        found = compare.train(self.plan, how, examples, experiment.store, experiment.folder)
        chosen, adaptation = outcome.decide(experiment, found, examples, self.select, self.where)
        arms = {c.method: [o for o in found if o.method == c.method] for c in found}
        accuracies = [c.figures["test"] for c in arms[chosen.method]]
        name = experiment.problem.tasks.first.name
        facts = {
            "test_accuracy_by_seed": accuracies,
            "test_by_seed": [
                {"accuracy": value, "tasks": {name: {"accuracy": value}}} for value in accuracies
            ],
            "trainings": divergence.trainings(arms),
            "verdict": None,
            "adaptation": adaptation,
        }
        return Outcome(chosen, facts, calibration=self.calibration)

    def tell(self, folder: Path) -> None:
        """Print the methods, the choice, what it gained, where things are."""
        outcome.summarize(folder)
