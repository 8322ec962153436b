"""Training with every method and without any, on the same examples and seeds, and measuring what
came out.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.adapt import catalogue, selection
from graft.recipes.codecs.examples import Examples
from graft.recipes.feed.cache import PrefixCache
from graft.recipes.feed.entries import CacheSettings
from graft.recipes.tasks.task import Task
from graft.recipes.train import fit
from graft.recipes.train.settings import Keep, TrainPlan
from graft.zoo.files.store import Store
from graft.zoo.graph.cuts import split_at
from graft.zoo.graph.stack import FEATURES, backbone_of
from graft.zoo.graph.state import set_weights
from graft.zoo.terminal import say

if TYPE_CHECKING:
    import keras

__all__ = ["Candidate", "Plan", "measure", "train"]


@dataclass(frozen=True)
class Plan:
    """Which methods are compared, and with what.

    Attributes:
        baseline: what the training without unlabelled examples is called.
        methods: names of `catalogue.METHODS`.
        strength: what the methods' losses count.
        threshold: how sure a label that is taken has to be; None: the method's own.
        keep: the epoch that is kept of every training, the baseline's too: the "best" by validation
            data, or the "last" where no validation data say which is best for what the model is
            for.
    """

    baseline: str
    methods: Sequence[str]
    strength: float
    threshold: float | None
    keep: Keep = "best"


@dataclass
class Candidate:
    """A trained model; `seconds` include what cached features had cost, `figures` hold what it is
    chosen and reported by. `kept` and `diverged` are as `fit.Trained` has them; of a method that
    adapts a trained model, those of that one, and in `kept` "adapted", the name of the method.

    Of `figures`, "right" `(n,)` says which of the measured examples it classifies correctly. It is
    for paired comparisons and is not written to run.json.
    """

    method: str
    seed: int
    weights: list[np.ndarray] = field(repr=False)
    history: list[dict] = field(repr=False)
    phases: list[dict] = field(repr=False)
    seconds: float
    kept: dict
    diverged: dict[str, float]
    figures: dict = field(default_factory=dict)


def train(
    plan: Plan,
    how: TrainPlan,
    examples: Mapping[str, Examples],
    store: Store | None,
    folder: Path | None,
) -> list[Candidate]:
    """The baseline first, then method after method, each with all seeds.

    Args:
        plan: what is compared.
        how: the baseline's training.
        examples: "train", "validation" and "unlabelled".
        store, folder: as for `fit.train`.

    Raises:
        ConfigError: what a method needs is not there.
    """
    counts = {"labelled": len(examples["train"]), "unlabelled": len(examples["unlabelled"])}
    catalogue.check_batch(plan.methods, how.settings.batch_size, counts)
    late = [name for name in plan.methods if catalogue.METHODS[name].kind == "afterwards"]
    if late:
        from graft.recipes.adapt import afterwards

        model = how.build()
        for name in late:
            afterwards.normalizations(model, name)  # refuses before anything is trained
    found: list[Candidate] = []
    for name in (plan.baseline, *plan.methods):
        say(f"method: {name}")
        if name in late:
            found += _afterwards(name, plan, how, examples["unlabelled"], found)
            continue
        method = None
        if name != plan.baseline:
            method = catalogue.maker(name, plan.strength, plan.threshold)
        asked = replace(how, method=method, keep=plan.keep)
        _, trained = fit.train(asked, examples, name=name, store=store, folder=folder)
        found += [
            Candidate(
                name,
                t.seed,
                t.weights,
                t.history,
                t.phases,
                t.seconds + t.charged,
                t.kept,
                t.diverged,
            )
            for t in trained
        ]
    return found


def measure(
    candidates: Sequence[Candidate],
    model: "keras.Model",
    task: Task,
    examples: Mapping[str, Examples],
    store: Store | None = None,
) -> Callable[[str], dict]:
    """Write each candidate's figures: what it can be chosen by, its accuracy on "test", and on the
    labelled examples "measured" where there are any.

    What a backbone that all candidates share makes of the examples is kept in `store`. Returns what
    looked: the name of a part -> `features` (what the last dense layer receives) `(n, width)` and
    `outputs` `(n, labels)` of its examples, with the weights that `model` has then.
    """
    parts = {name: part for name, part in examples.items() if name != "train"}
    truth = {
        name: part.targets[task.name].argmax(-1)
        for name, part in parts.items()
        if name != "unlabelled"
    }
    look = _viewer(model, parts, candidates, store)
    for candidate in candidates:
        set_weights(model, candidate.weights)
        own, others = look("validation"), look("unlabelled")
        right = np.float64(own["outputs"].argmax(-1) == truth["validation"])
        candidate.figures = {
            "labelled": float(right.mean()),
            "information": selection.information(others["outputs"]),
            "iwv": selection.importance_weighted(own["features"], right, others["features"]),
            "test": float(np.mean(look("test")["outputs"].argmax(-1) == truth["test"])),
            "accuracy": None,
        }
        if "measured" in parts:
            said = look("measured")["outputs"].argmax(-1)
            candidate.figures["right"] = said == truth["measured"]
            candidate.figures["accuracy"] = float(np.mean(candidate.figures["right"]))
            labels = len(task.labels)
            candidate.figures["recall"] = _recalls(said, truth["measured"], labels)
    return look


def _viewer(
    model: "keras.Model",
    parts: Mapping[str, Examples],
    candidates: Sequence[Candidate],
    store: Store | None,
) -> Callable[[str], dict]:
    """What looks at the parts by name, traced once; where all candidates have one backbone, what
    that gives is computed once, and kept in the `store`, or without one in memory.
    """
    import keras

    first = candidates[0].weights
    body = {id(v) for v in backbone_of(model).weights}
    own = [i for i, v in enumerate(model.weights) if id(v) in body]
    if any(
        not np.array_equal(candidate.weights[i], first[i])
        for candidate in candidates[1:]
        for i in own
    ):
        call = fit.forward(_seeing(model))
        return lambda name: fit.outputs_of(call, parts[name])
    set_weights(model, first)
    cut = (model.get_layer(FEATURES).output,)
    prefix, tail = split_at(model, cut)
    call = fit.forward(_seeing(tail))
    if store is None:
        pooled = {name: fit.predict(prefix, part)[0] for name, part in parts.items()}
        return lambda name: keras.tree.map_structure(np.asarray, call(pooled[name]))
    # In float32: figures are those of the model that ships.
    cache = PrefixCache(store, model, dict(parts), (), CacheSettings(dtype="float32"))
    return lambda name: fit.outputs_of(call, cache.features(cut, name))


def _seeing(model: "keras.Model") -> "keras.Model":
    import keras

    from graft.recipes.train.joint import hidden_of

    return keras.Model(
        model._inputs_struct, {"features": hidden_of(model), "outputs": model.output}
    )


def _afterwards(
    name: str,
    plan: Plan,
    how: TrainPlan,
    unlabelled: Examples,
    found: Sequence[Candidate],
) -> list[Candidate]:
    from graft.recipes.adapt import afterwards

    adapt = getattr(afterwards, catalogue.METHODS[name].of)
    model, adapted = how.build(), []
    for before in [candidate for candidate in found if candidate.method == plan.baseline]:
        start = time.perf_counter()
        set_weights(model, before.weights)
        adapt(model, unlabelled, how.settings.batch_size, before.seed)
        adapted.append(
            replace(
                before,
                method=name,
                weights=model.get_weights(),
                seconds=before.seconds + time.perf_counter() - start,
                kept={**before.kept, "adapted": name},
                figures={},
            )
        )
    return adapted


def _recalls(said: np.ndarray, truth: np.ndarray, labels: int) -> list[float | None]:
    """Of each label, the share of its examples that are found; None where it has none."""
    return [
        float(np.mean(said[truth == c] == c)) if (truth == c).any() else None for c in range(labels)
    ]
