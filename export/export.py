"""All files of one model: written, reopened from disk, and measured as files."""

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.export import contents, evidence, manifest, probe
from graft.export.convert.graph import as_float32, in_half_precision, named_inputs, output_tensors
from graft.export.convert.onnx import convert_to_onnx, write_onnx
from graft.export.convert.savedmodel import RAW_TEXT, write_savedmodel
from graft.export.convert.text_graph import can_tokenize, tokenizer_graph
from graft.export.convert.tflite import convert_to_tflite, write_tflite
from graft.export.manifest import Description
from graft.export.quantize.choose import (
    PRECISIONS,
    Preference,
    best_attempt,
    explain_choice,
    try_precision,
)
from graft.export.quantize.layer_errors import (
    LAYER_ERROR_EXAMPLES,
    measure_layer_errors,
    mixed_file_maker,
)
from graft.export.quantize.onnx import ONNXQuantizer
from graft.export.quantize.quantizer import NO_CALIBRATION, Quantizer, as_model_input
from graft.export.quantize.tflite import TFLiteQuantizer
from graft.export.runtimes.onnx import open_onnx
from graft.export.runtimes.savedmodel import open_raw_text
from graft.export.runtimes.tflite import open_tflite
from graft.export.sessions import open_artifact
from graft.zoo.errors import (
    ArtifactError,
    CheckFailed,
    ConfigError,
    ExportError,
    NotApplicable,
    UnknownName,
)
from graft.zoo.files import staged_folder, write_text
from graft.zoo.graph.stack import MASK
from graft.zoo.heads import scores
from graft.zoo.heads.scores import Score

if TYPE_CHECKING:
    import keras

__all__ = ["FORMATS", "FOR_CALIBRATION", "Examples", "export_model"]

FORMATS = ("savedmodel", "tflite", "onnx")
CONVERTERS = {"tflite": convert_to_tflite, "onnx": convert_to_onnx}
WRITERS = {"tflite": write_tflite, "onnx": write_onnx}
OPENERS = {"tflite": open_tflite, "onnx": open_onnx}
BATCH = 32
FOR_CALIBRATION = 32
"""With fewer examples the ranges of int8 depend on which ones they are."""
SHOWN_LAYERS = 20
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
    scorers: Mapping[str, Callable[[np.ndarray], Score]] = field(default_factory=dict)
    stated: Mapping[str, float | None] | None = None

    def __len__(self) -> int:
        return len(
            next(iter(self.inputs.values())) if isinstance(self.inputs, Mapping) else self.inputs
        )

    def named(self, model: "keras.Model") -> dict[str, np.ndarray]:
        """The inputs by name."""
        return (
            dict(self.inputs)
            if isinstance(self.inputs, Mapping)
            else {model.inputs[0].name: self.inputs}
        )


def export_model(
    model: "keras.Model",
    folder: Path,
    *,
    description: Description,
    kind: str | Mapping[str, str],
    examples: Examples,
    calibration: Examples | None = None,
    formats: Sequence[str] = FORMATS,
    precisions: Sequence[str] = (),
    max_drop: float = 1.0,
    prefer: Preference = "latency",
    explain: bool = False,
    training_data: Mapping | None = None,
    beside: Sequence[Path] = (),
    overwrite: bool = False,
    report: Callable[[dict], None] = lambda row: None,
    finish: Callable[[Path], None] = lambda staging: None,
) -> dict:
    """Write `model` in all `formats` into `folder`, with labels.txt and manifest.json; returns the
    manifest.

    `kind` says what the numbers of the output mean ("single_label", ...; see zoo/heads/heads.py),
    of several outputs by name.

    Float32 is always written, and beside it, for TFLite and ONNX, each of `precisions` ("float16",
    "dynamic", "int8", "int8-full"). Each file is opened from disk by its own runtime and run on
    `examples`, which are not from the training data, beside `model` as it was given. Of the figure
    that each output is judged by it may lose `max_drop` points (see `export/evidence.py`). "int8"
    needs `calibration`, from the training data. Where it loses more, or may, other files are tried
    (see export/quantize/choose.py), and of those that pass the quickest or the smallest is kept, as
    `prefer` says, under the name of what it is. `explain` measures what each layer loses in int8 in
    any case.

    Each row has a `"status"`: "pass", "undecided" (it lost more than it may, which chance may
    explain), "fail", "skipped" (a precision that makes no sense for a format). A file that fails
    stays; a format that cannot be written is a row with its `"error"`. `report` receives each row
    when it is done; `finish` the folder that holds all of it, before it takes its place, to add to
    it. The files `beside`, to which `training_data` refers, are copied into the folder.

    Raises:
        UnknownName: a format or precision that does not exist.
        ConfigError: `folder` exists and `overwrite` is false; the disk is full; no examples; int8
            without calibration.
        CheckFailed: `model` itself answers NaN, or otherwise than is stated of it.
    """
    for noun, names, known in (
        ("format", formats, FORMATS),
        ("precision", precisions, PRECISIONS),
    ):
        for name in names:
            if name not in known:
                raise UnknownName(noun, name, known)
    if not len(examples):
        raise ConfigError("an export needs at least one example to check its files with")
    if calibration is None and any(precision.startswith("int8") for precision in precisions):
        raise ConfigError(NO_CALIBRATION)
    kinds = (
        kind
        if isinstance(kind, Mapping)
        else dict.fromkeys(output_tensors(model, model.output), kind)
    )
    judge = _Judge.of(
        model, examples, kinds, max_drop, description
    )  # the model as it is, in its own precision
    given, model = model, as_float32(model)
    # A rebuilt model may call its inputs otherwise.
    names = {old.name: new.name for old, new in zip(given.inputs, model.inputs, strict=True)}
    judge = replace(judge, inputs={names[name]: values for name, values in judge.inputs.items()})
    rows = []
    with staged_folder(folder, overwrite) as staging:
        for name in dict.fromkeys(formats):
            for row in _format(
                model, name, staging, description, judge, calibration, precisions, prefer, explain
            ):
                report(row)
                rows.append(row)
        for name, text in description.attached.items():
            if name != "preprocessing.json":  # the manifest holds it
                write_text(staging / name, text)
        for file in beside:
            shutil.copyfile(file, staging / file.name)
        content = {
            "files": rows,
            "requested": {
                "formats": list(formats),
                "precisions": list(precisions),
                "max_drop": max_drop,
                "prefer": prefer,
            },
            "labels": description.labels,
            "inputs": [
                {"name": t.name, "shape": [None, *t.shape[1:]], "dtype": t.dtype}
                for t in model.inputs
            ],
            "outputs": [
                {"name": name, "shape": [None, *t.shape[1:]], "dtype": t.dtype, "kind": kinds[name]}
                for name, t in output_tensors(model, model.output).items()
            ],
            "preprocessing": description.preprocessing,
            "measured_on": {"examples": len(examples), **(examples.facts or {})},
            "calibration": None
            if calibration is None
            else {"examples": len(calibration), **(calibration.facts or {})},
            "training_data": dict(training_data or {}),
            "machine": manifest.describe_machine(),
            "versions": manifest.package_versions(),
        }
        written = manifest.write_manifest(staging, content)
        finish(staging)
    return written


@dataclass(frozen=True)
class _Judge:
    """What Keras answers to the examples, and how much a file may lose against it.

    Attributes:
        inputs: of the examples, by name.
        reference: Keras's answers by output, rows `(n, units)`; of tags a row for each token that
            is no padding.
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
    kinds: Mapping[str, str]
    max_drop: float
    scorers: Mapping[str, Callable[[np.ndarray], Score]]
    half: bool
    texts: Sequence[str] | None = None
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: "keras.Model",
        examples: Examples,
        kinds: Mapping[str, str],
        max_drop: float,
        description: Description,
    ) -> "_Judge":
        inputs = examples.named(model)

        def predict(batch):
            return output_tensors(model, model(named_inputs(model, batch), training=False))

        reference = _in_batches(predict, inputs)
        for name, rows in reference.items():
            if not np.isfinite(rows).all():
                raise CheckFailed(
                    f"the model itself answers NaN or infinity (output '{name}'), so there is "
                    "nothing to export: its "
                    "weights are damaged, or its training diverged: train it again with a lower "
                    "--learning-rate"
                )
        given = (
            examples.targets
            if isinstance(examples.targets, Mapping)
            else dict.fromkeys(reference, examples.targets)
        )
        targets, known, labels, scorers = {}, {}, {}, dict(examples.scorers)
        for name, rows in reference.items():
            truth = given.get(name)
            labels[name] = (
                description.preprocessing.get("outputs", {})
                .get(name, {})
                .get("labels", description.labels)
            )
            if kinds[name] == "tags":
                scorers.setdefault(name, _tag_scorer(labels[name], inputs[MASK], truth, rows))
                truth = None
            elif truth is not None and np.issubdtype(truth.dtype, np.floating):
                known[name] = ~np.isnan(truth).any(-1)
            targets[name] = truth
        if known and not any(known.get(name, np.ones(1, bool)).any() for name in reference):
            raise ConfigError(
                "none of the examples has an answer to check the files with: give other --data"
            )
        half = in_half_precision(model)
        judge = cls(
            inputs,
            reference,
            targets,
            known,
            kinds,
            max_drop,
            scorers,
            half,
            examples.texts,
            labels,
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
            same = (
                figures.truth == "labels"
                and figures.key == scores.figure_of(self.kinds[name])["key"]
            )
            # Another machine, or another size of batch, may turn a near tie.
            turned = evidence.near_ties(self.reference[name], self.kinds[name]) / max(
                1, figures.examples
            )
            if said is not None and same and abs(said - found) > REPEATED + turned:
                raise CheckFailed(
                    f"the run states a validation {figures.figure} of {100 * said:.1f} % (output "
                    f"'{name}'), its model.keras "
                    f"reaches {100 * found:.1f} % on the same examples: it is not the model that "
                    "was measured; train again"
                )

    def outputs(
        self,
        predict: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]],
        batch: int | None = None,
    ) -> dict[str, np.ndarray]:
        """The rows that `predict` (inputs by name -> outputs by name) gives for the examples."""
        return _in_batches(predict, self.inputs, batch or BATCH)

    def alone(self, predict: Callable, precision: str) -> evidence.Parity:
        """That of the output which differs most, where the first examples are run one at a time."""
        few = {name: values[:ALONE] for name, values in self.inputs.items()}
        found = _in_batches(predict, few, 1)
        rows = {name: self.reference[name][: len(values)] for name, values in found.items()}
        return replace(self, reference=rows).parity(found, precision)

    def figures(self, outputs: Mapping[str, np.ndarray]) -> dict[str, evidence.Accuracy]:
        """What each output is worth, by name; one that none of the examples has an answer to is
        left out.
        """
        found = {}
        for name, reference in self.reference.items():
            rows = self.known.get(name, np.ones(len(reference), bool))
            if not rows.any():
                continue
            truth = self.targets[name]
            judged = evidence.accuracy(
                reference[rows],
                outputs[name][rows],
                None if truth is None else truth[rows],
                self.kinds[name],
                self.max_drop,
                self.scorers.get(name),
                self.half,
            )
            names = self.labels.get(name, ())
            named = judged.unit is not None and len(names) == reference.shape[-1]
            found[name] = replace(judged, label=names[judged.unit]) if named else judged
        return found

    def accuracy(
        self, outputs: Mapping[str, np.ndarray]
    ) -> tuple[str, dict[str, evidence.Accuracy]]:
        """(the output that is worst off, the figures of all outputs by name)."""
        found = self.figures(outputs)
        order = ("fail", "undecided", "pass")
        return min(
            found, key=lambda name: (order.index(found[name].status), -found[name].drop_points)
        ), found

    def parity(self, outputs: Mapping[str, np.ndarray], precision: str) -> evidence.Parity:
        """That of the output which differs most."""
        found = [
            evidence.parity(reference, outputs[name], self.kinds[name], precision, self.half)
            for name, reference in self.reference.items()
        ]
        return min(found, key=lambda parity: (parity.passed, -parity.max_abs_diff))


def _tag_scorer(
    tags: Sequence[str], mask: np.ndarray, truth: np.ndarray | None, reference: np.ndarray
) -> Callable[[np.ndarray], Score]:
    """What makes entity F1 of rows `(tokens, labels)`, those of all sentences without padding.

    `truth` int32 `(n, length)`, -1 where a token begins no word; None: the tags of the `reference`
    are taken for true.
    """
    ends = np.cumsum((mask > 0).sum(-1))[:-1]
    names = (
        list(tags)
        if len(tags) == reference.shape[-1]
        else [f"B-{i}" for i in range(reference.shape[-1])]
    )
    wanted = reference.argmax(-1) if truth is None else truth[mask > 0]
    true = [[names[tag] for tag in part if tag >= 0] for part in np.split(wanted, ends)]

    def score(rows: np.ndarray) -> Score:
        best = np.where(wanted >= 0, rows.argmax(-1), -1)
        said = [[names[tag] for tag in part if tag >= 0] for part in np.split(best, ends)]
        return scores.entity_f1(true, said)

    return score


def _format(model, name, staging, description, judge, calibration, precisions, prefer, explain):
    """A row for each file of one format."""
    blank = _blank(name, "float32")
    target = staging / ("savedmodel" if name == "savedmodel" else f"model.{name}")
    start = time.perf_counter()
    try:
        if name == "savedmodel":
            write_savedmodel(model, target, description)
            content = b""
        else:
            fixed = [description.length] if name == "tflite" and description.length else []
            content = CONVERTERS[name](model, *fixed)
            WRITERS[name](content, target, description)
    except ExportError as error:
        yield blank | {"error": str(error)}
        return
    whole = _measured(blank, target, judge, description, time.perf_counter() - start)
    yield whole
    if name == "savedmodel":
        return
    named = None if calibration is None else calibration.named(model)
    smaller = _Smaller(name, content, judge, description, named, prefer, whole)
    for precision in dict.fromkeys(precisions):
        yield smaller.row(staging, precision, explain and precision == "int8")


@dataclass(frozen=True)
class _Smaller:
    """The quantized files of one format; `whole` is the row of its float32 file."""

    format: str
    content: bytes
    judge: _Judge
    description: Description
    calibration: Mapping[str, np.ndarray] | None
    prefer: Preference
    whole: Mapping
    errors: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

    def row(self, staging: Path, precision: str, explain: bool) -> dict:
        row = _blank(self.format, precision)
        start = time.perf_counter()
        try:
            tried = try_precision(self.quantizer, precision, self._judged, self.layer_errors)
        except NotApplicable as reason:
            return row | {"status": "skipped", "passed": True, "skipped": str(reason)}
        except (ExportError, ArtifactError) as error:
            return row | {"error": str(error)}
        chosen = best_attempt(tried, self.prefer, self._latency)
        target = staging / f"model.{chosen.precision}.{self.format}"
        WRITERS[self.format](chosen.content, target, self.description)
        row |= {"precision": chosen.precision, "attempts": [attempt.as_dict() for attempt in tried]}
        row = _measured(row, target, self.judge, self.description, time.perf_counter() - start)
        row |= _against(row, self.whole)
        row |= {
            "reason": explain_choice(tried, chosen, self.prefer),
            "float_layers": list(chosen.float_layers),
        }
        if explain or len(tried) > 1:
            shown = self.layer_errors(precision)[:SHOWN_LAYERS]
            row["layer_errors"] = [{"layer": layer, "error": error} for layer, error in shown]
        return row

    @cached_property
    def quantizer(self) -> Quantizer:
        if self.format == "onnx":
            return ONNXQuantizer(self.content, self.calibration)
        bounds = self.description.input_range
        return TFLiteQuantizer(
            self.content,
            self.calibration,
            dict.fromkeys(self.judge.inputs, bounds) if bounds else None,
        )

    def layer_errors(self, precision: str) -> list[tuple[str, float]]:
        if precision not in self.errors:
            make = mixed_file_maker(self.quantizer, precision)
            some = self.judge.inputs if self.calibration is None else self.calibration
            some = {name: value[:LAYER_ERROR_EXAMPLES] for name, value in some.items()}

            def run(content):
                return np.concatenate([rows.ravel() for rows in self._run(content, some).values()])

            self.errors[precision] = measure_layer_errors(
                self.quantizer.layers, make, run, run(self.content)
            )
        return self.errors[precision]

    def _judged(self, content: bytes, precision: str) -> dict:
        outputs = self._run(content, self.judge.inputs)
        worst, found = self.judge.accuracy(outputs)
        parity = self.judge.parity(outputs, precision)
        facts = {
            key: found[worst].as_dict()[key]
            for key in ("figure", "value", "drop_points", "drop_interval")
        }
        status = found[worst].status if parity.passed else "fail"
        facts |= {"output": worst, "max_abs_diff": parity.max_abs_diff}
        return facts | {"status": status, "passed": status == "pass"}

    def _latency(self, content: bytes) -> float:
        """Milliseconds on one thread, of a file that is not there yet; without end where it cannot
        be timed.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"model.{self.format}"
            WRITERS[self.format](content, file, self.description)
            try:
                return probe.measure_latency(file)
            except (ArtifactError, CheckFailed):  # the others are not lost with it
                return math.inf

    def _run(self, content: bytes, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"model.{self.format}"
            file.write_bytes(content)
            return _in_batches(OPENERS[self.format](file).run, inputs)


def _blank(name: str, precision: str) -> dict:
    return {
        "format": name,
        "precision": precision,
        "requested": precision,
        "path": None,
        "status": "fail",
        "passed": False,
        "reason": None,
    }


def _measured(
    row: Mapping, target: Path, judge: _Judge, description: Description, seconds: float
) -> dict:
    """`row` with all that is known of the file `target`, read and run from the disk."""
    row = {**row, "path": target.name}
    row |= {
        "size_bytes": manifest.size_bytes(target),
        "sha256": manifest.sha256(target),
        "seconds": round(seconds, 2),
    }
    try:
        session = open_artifact(target, trust=True)  # we wrote it
        outputs = judge.outputs(session.run)
        parity = judge.parity(outputs, row["precision"])
        if row["format"] != "tflite":  # which runs no other batches
            alone = judge.alone(session.run, row["precision"])
            parity = replace(
                parity, batch_1_diff=alone.max_abs_diff, passed=parity.passed and alone.passed
            )
        worst, of_outputs = judge.accuracy(outputs)
        accuracy = of_outputs[worst]
        row |= {"parity": parity.as_dict(), "accuracy": {"output": worst, **accuracy.as_dict()}}
        if len(judge.reference) > 1:
            row["accuracy_of_outputs"] = {
                name: figures.as_dict() for name, figures in of_outputs.items()
            }
        row |= {
            **_with_ranges(contents.describe_file(target), description, judge.kinds),
            **probe.measure_file(target),
        }
        if row["format"] == "savedmodel" and can_tokenize(description.tokenizer) and judge.texts:
            row |= _raw_text(target, judge, description)
    except ArtifactError as error:
        return row | {"error": str(error)}
    status = accuracy.status if parity.passed else "fail"
    return row | {"status": status, "passed": status == "pass"}


def _against(row: Mapping, whole: Mapping) -> dict:
    """How large and how slow a file is beside the float32 file of its format: `{"against_float32":
    {"size", "latency"}}`.
    """
    if "latency_ms" not in row or "latency_ms" not in whole:
        return {}
    own, other = (each["latency_ms"]["one_thread"]["median"] for each in (row, whole))
    ratios = {
        "size": row["size_bytes"] / whole["size_bytes"],
        "latency": own / other if other else None,
    }
    return {"against_float32": {key: value and round(value, 3) for key, value in ratios.items()}}


def _raw_text(target: Path, judge: _Judge, description: Description) -> dict:
    """What the signature that takes strings gives for the examples, beside tokenizer.json."""
    tokenize = tokenizer_graph(description.tokenizer, description.length)
    mask = judge.inputs[MASK]
    wanted = [
        row[:count] for row, count in zip(judge.inputs["token_ids"], mask.sum(-1), strict=True)
    ]
    same = 0
    for start in range(0, len(wanted), BATCH):
        given = tokenize(np.array([text.encode() for text in judge.texts[start : start + BATCH]]))
        lengths = np.asarray(given["padding_mask"]).sum(-1)
        rows = zip(
            np.asarray(given["token_ids"]), lengths, wanted[start : start + BATCH], strict=True
        )
        same += sum(np.array_equal(row[:length], want) for row, length, want in rows)
    runs = open_raw_text(target)(judge.texts[:BATCH])
    return {
        "raw_text": {
            "signature": RAW_TEXT,
            "examples": len(wanted),
            "same_ids": same,
            "outputs": list(runs),
        },
        "needs": ["tensorflow-text"],
    }


def _with_ranges(described: dict, description: Description, kinds: Mapping[str, str]) -> dict:
    described["inputs"][0]["range"] = (
        list(description.input_range) if description.input_range else None
    )
    for output in described["outputs"]:
        output["range"] = (
            [0, 1] if kinds[output["name"]] in ("single_label", "multi_label", "tags") else None
        )
    return described


def _in_batches(
    predict: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]],
    inputs: Mapping[str, np.ndarray],
    size: int = BATCH,
) -> dict[str, np.ndarray]:
    """Rows `(n, units)` by output; of an output with a row a token, those that are no padding."""
    count = len(next(iter(inputs.values())))
    parts: dict[str, list] = {}
    for start in range(0, count, size):
        batch = {
            name: as_model_input(value[start : start + size]) for name, value in inputs.items()
        }
        for name, rows in predict(batch).items():
            rows = np.asarray(rows)
            parts.setdefault(name, []).append(rows[batch[MASK] > 0] if rows.ndim == 3 else rows)
    return {name: np.concatenate(rows) for name, rows in parts.items()}
