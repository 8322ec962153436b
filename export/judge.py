"""What a model answers to examples, and how much a file made of it may lose."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.export.convert.graph import in_half_precision, named_inputs, output_tensors
from graft.export.gate import Accuracy, Gate, accuracy
from graft.export.manifest import Description
from graft.export.parity import Parity, parity
from graft.export.quantize.quantizer import as_model_input
from graft.zoo.errors import CheckFailed, ConfigError
from graft.zoo.graph.stack import MASK
from graft.zoo.graph.tracing import traced
from graft.zoo.heads.kind import Kind, Scorer

if TYPE_CHECKING:
    import keras

__all__ = ["BATCH", "Examples", "Judge", "Subject", "in_batches"]

Batch = Mapping[str, Any]
"""Arrays or tensors by the name of an input or output."""
Predict = Callable[[Batch], Batch]
"""Inputs by name -> outputs by name."""

BATCH = 32
ALONE = 64
"""Examples that are also run one at a time."""
REPEATED = 1e-3
"""What a figure that a run states may differ by from that of its model.keras, beside what near ties
allow.
"""


@dataclass(frozen=True)
class Examples:
    """Real inputs `(n, *shape)`, without preprocessing.

    Attributes:
        inputs: of the model's only input, or for each input by name; bytes are made float32, token
            ids (int32) stay.
        targets: `(n, units)` as the head's metrics take them, of tags int32 `(n, length)`; None
            where the truth is not known. Of a model with several outputs, by their names, NaN where
            a truth is not known.
        facts: where they come from, for the manifest: split, names, ...
        texts: for a model of texts, as they came.
        scorers: output -> what makes a score of its rows, where the kind alone does not say it: of
            tags, of which some words are cut off. Rows as `fit.predict` gives them.
        stated: output -> the figure that is said of the model on these very examples; None where
            nothing is said.
    """

    inputs: np.ndarray | Mapping[str, np.ndarray]
    targets: np.ndarray | Mapping[str, np.ndarray] | None = None
    facts: Mapping | None = None
    texts: Sequence[str] | None = None
    scorers: Mapping[str, Scorer] = field(default_factory=dict)
    stated: Mapping[str, float | None] | None = None

    def __len__(self) -> int:
        return len(
            next(iter(self.inputs.values())) if isinstance(self.inputs, Mapping) else self.inputs
        )

    def named(self, model: "keras.Model") -> dict[str, np.ndarray]:
        """The inputs by name."""
        if isinstance(self.inputs, Mapping):
            return dict(self.inputs)
        return {model.inputs[0].name: self.inputs}


@dataclass(frozen=True)
class Subject:
    """What is exported beside the model itself.

    Attributes:
        description: what every file says of itself.
        kinds: what the numbers of each output mean, by its name.
        examples: what the files are checked with, not from the training data.
        calibration: training examples for int8; None where there are none.
        training_data: what the manifest says of the data that the model was trained on.
        beside: files to which `training_data` refers; they are copied into the folder.
    """

    description: Description
    kinds: Mapping[str, Kind]
    examples: Examples
    calibration: Examples | None = None
    training_data: Mapping | None = None
    beside: Sequence[Path] = ()


@dataclass(frozen=True)
class Judge:
    """What Keras answers to the examples, and how much a file may lose against it.

    Attributes:
        inputs: of the examples, by name.
        reference: Keras's answers by output, rows `(n, ...)` as files give them; of tags a row for
            each token that is no padding.
        targets: the same for the truth; None where it is not known. None of tags, which have
            scorers.
        known: for each output, which rows have a truth.
        kinds: what the numbers of each output mean.
        scorers: for tags, what makes a score of their rows.
        half: whether the reference was computed in half precision.
        texts: the examples as they came, if they are texts.
        labels: what the units of each output are called, where it is known.
    """

    inputs: Mapping[str, np.ndarray]
    reference: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray | None]
    known: Mapping[str, np.ndarray]
    kinds: Mapping[str, Kind]
    max_drop: float
    scorers: Mapping[str, Scorer]
    half: bool
    texts: Sequence[str] | None = None
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: "keras.Model", subject: "Subject", max_drop: float) -> "Judge":
        """The judge of a model as it is, in its own precision.

        Raises:
            CheckFailed: the model answers NaN, or otherwise than is stated of it.
            ConfigError: no example has an answer.
        """
        examples, kinds = subject.examples, subject.kinds
        inputs = examples.named(model)

        @traced
        def predict(batch: Batch) -> Batch:
            return output_tensors(model, model(named_inputs(model, batch), training=False))

        size = model.inputs[0].shape[1:3]
        reference = {
            name: kinds[name].shipped(rows, size)
            for name, rows in in_batches(predict, inputs).items()
        }
        for name, rows in reference.items():
            if not np.isfinite(rows).all():
                raise CheckFailed(
                    f"the model itself answers NaN or infinity (output '{name}'), so there is "
                    "nothing to export: its weights are damaged, or its training diverged: train "
                    "it "
                    "again with a lower --learning-rate"
                )
        given = examples.targets
        if not isinstance(given, Mapping):
            given = dict.fromkeys(reference, given)
        targets, known, labels, scorers = {}, {}, {}, dict(examples.scorers)
        for name, rows in reference.items():
            truth = given.get(name)
            labels[name] = subject.description.labels_of_units(name)
            if kinds[name].by_position and name not in scorers:
                scorers[name] = kinds[name].scorer_of_rows(labels[name], inputs[MASK], truth, rows)
            if name in scorers:
                truth = None
            elif truth is not None and np.issubdtype(truth.dtype, np.floating):
                known[name] = ~np.isnan(truth).any(tuple(range(1, truth.ndim)))
            targets[name] = truth
        if known and not any(known.get(name, np.ones(1, bool)).any() for name in reference):
            raise ConfigError(
                "none of the examples has an answer to check the files with: give other --data"
            )
        judge = cls(
            inputs=inputs,
            reference=reference,
            targets=targets,
            known=known,
            kinds=kinds,
            max_drop=max_drop,
            scorers=scorers,
            half=in_half_precision(model),
            texts=examples.texts,
            labels=labels,
        )
        judge.check_stated(examples.stated)
        return judge

    def check_stated(self, stated: Mapping[str, float | None] | None) -> None:
        """Refuse a model that does not reach what is said of it on these examples.

        Raises:
            CheckFailed: it reaches another figure.
        """
        if stated is None:
            return
        for name, figures in self.figures(self.reference).items():
            said, found = stated.get(name), figures.value
            same = figures.truth == "labels" and figures.key == self.kinds[name].key
            # Another machine, or another size of batch, may turn a near tie.
            ties = self.kinds[name].near_ties(self.reference[name])
            turned = ties / max(1, figures.examples)
            if said is not None and same and abs(said - found) > REPEATED + turned:
                raise CheckFailed(
                    f"the run states a validation {figures.figure} of {100 * said:.1f} % (output "
                    f"'{name}'), its model.keras "
                    f"reaches {100 * found:.1f} % on the same examples: it is not the model that "
                    "was measured; train again"
                )

    def outputs(self, predict: Predict, batch: int | None = None) -> dict[str, np.ndarray]:
        """The rows that `predict` (inputs by name -> outputs by name) gives for the examples."""
        return in_batches(predict, self.inputs, batch or BATCH)

    def alone(self, predict: Predict, precision: str) -> Parity:
        """That of the output which differs most, where the first examples are run one at a time."""
        few = {name: values[:ALONE] for name, values in self.inputs.items()}
        found = in_batches(predict, few, 1)
        rows = {name: self.reference[name][: len(values)] for name, values in found.items()}
        return replace(self, reference=rows).parity(found, precision)

    def figures(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Accuracy]:
        """What each output is worth, by name; one that none of the examples has an answer to is
        left out.
        """
        found = {}
        for name, reference in self.reference.items():
            rows = self.known.get(name, np.ones(len(reference), bool))
            if not rows.any():
                continue
            truth = self.targets[name]
            gate = Gate(self.kinds[name], self.max_drop, self.scorers.get(name), self.half)
            truth = None if truth is None else truth[rows]
            judged = accuracy(reference[rows], outputs[name][rows], truth, gate)
            names = self.labels.get(name, ())
            named = judged.unit is not None and judged.unit < len(names)
            found[name] = replace(judged, label=names[judged.unit]) if named else judged
        return found

    def accuracy(self, outputs: Mapping[str, np.ndarray]) -> tuple[str, dict[str, Accuracy]]:
        """(the output that is worst off, the figures of all outputs by name)."""
        found = self.figures(outputs)
        order = ("fail", "undecided", "pass")
        return min(
            found, key=lambda name: (order.index(found[name].status), -found[name].drop_points)
        ), found

    def parity(self, outputs: Mapping[str, np.ndarray], precision: str) -> Parity:
        """That of the output which differs most."""
        found = [
            parity(reference, outputs[name], self.kinds[name], precision, self.half)
            for name, reference in self.reference.items()
        ]
        return min(found, key=lambda one: (one.passed, -one.max_abs_diff))


def in_batches(predict: Predict, inputs: Batch, size: int = BATCH) -> dict[str, np.ndarray]:
    """Rows `(n, units)` by output; of an output with a row a token, those that are no padding."""
    count = len(next(iter(inputs.values())))
    parts: dict[str, list] = {}
    for start in range(0, count, size):
        batch = {
            name: as_model_input(value[start : start + size]) for name, value in inputs.items()
        }
        for name, rows in predict(batch).items():
            rows = np.asarray(rows)
            by_position = MASK in batch and rows.ndim == 3
            parts.setdefault(name, []).append(rows[batch[MASK] > 0] if by_position else rows)
    return {name: np.concatenate(rows) for name, rows in parts.items()}
