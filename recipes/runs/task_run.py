"""What a run of several tasks on pictures holds beside the files of `run.py`.

preprocessing.json   how pictures go in and what comes out, task by task; every exported file carries it
labels.txt           those of the first task
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.export.export import Examples
from graft.recipes.tasks import evaluation, head_evaluation
from graft.recipes.runs import export_data, run
from graft.recipes.train import fit, schedule
from graft.recipes.data import membership, reading, splits, tasks
from graft.recipes.runs.export_data import CALIBRATION, MOST_MEASURED
from graft.recipes.codecs.images import Images, decode_pictures, take
from graft.recipes.feed.pipeline import Order
from graft.zoo.terminal import say, warn
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.recipes.data.sources import SPLITS, Source
from graft.recipes.data.tasks import Task
from graft.recipes.runs.text_session import heads_of
from graft.zoo.errors import ConfigError, DataError, UnknownName
from graft.zoo.files.reading import read_arrays, read_json
from graft.zoo.files.writing import write_text
from graft.zoo.heads.heads import Head
from graft.zoo.vision import DECODING

if TYPE_CHECKING:
    import keras

__all__ = [
    "alone",
    "as_long",
    "decode_splits",
    "describe_data",
    "examples_of",
    "judged",
    "preprocessing",
    "sharing",
    "tasks_in",
    "write",
]


def decode_splits(source: Source, heads: Sequence[Head], image_size: int, skip_bad: bool) -> dict[str, Images]:
    """The pictures of every split, with a target for each head, and a line that says how many there
    are. Warns of those that look the same in two splits.
    """
    decoded = {
        split: decode_pictures(
            examples, tasks.targets_of(heads, examples), image_size, skip_bad=skip_bad, title=f"decode {split}"
        )
        for split, examples in source.splits.items()
    }
    say(reading.summary(source, decoded, "image", f"{len(heads)} tasks"))
    membership.warn_of_alike(decoded)
    return decoded


def alone(images: Mapping[str, Images], head: Head) -> dict[str, Images]:
    """The pictures whose answer to one task is known, with this target alone.

    Raises:
        DataError: a split has none.
    """
    found = {}
    for split, part in images.items():
        targets = part.targets[head.name]
        rows = np.flatnonzero(~np.isnan(targets).any(-1))
        if not len(rows):
            raise DataError(f"no {split} picture has an answer to task '{head.name}': it cannot be "
                "trained by itself")
        found[split] = take(replace(part, targets=targets), rows)
    return found


def as_long(
    phases: Sequence[Phase], settings: FitSettings, together: Images, own: Images
) -> tuple[tuple[Phase, ...], FitSettings]:
    """`phases` and `settings` for a training on the pictures `own`, fewer than `together`: of so
    many more epochs that it has as many updates, or a task with few answers would be compared with
    a model of its own that hardly learned.
    """
    of_all, steps = (Order(len(part), settings.batch_size, 0).steps for part in (together, own))
    longer = tuple(schedule.lengthened([phase], steps, phase.epochs * of_all)[0] for phase in phases)
    return longer, replace(settings, patience=-(-settings.patience * of_all // steps))


def preprocessing(heads: Sequence[Head], given: Sequence[Task], image_size: int) -> dict:
    """How pictures go into the model and what comes out: what another program needs to do the
    same.
    """
    return {
        "modality": "image",
        **DECODING,
        "image_size": image_size,
        "outputs": {
            head.name: {"kind": head.kind, "labels": list(head.labels), "column": task.column}
            for head, task in zip(heads, given, strict=True)
        },
    }


def tasks_in(described: Mapping) -> tuple[Task, ...]:
    """The tasks that an artifact describes."""
    return tuple(Task(name, facts["column"], facts["kind"]) for name, facts in described["outputs"].items())


def describe_data(
    source: Source,
    images: Mapping[str, Images],
    heads: Sequence[Head],
    made,
    split_seed: int,
    fingerprint: str,
    duplicates: int,
) -> dict:
    """The data as they were used: counts by split and label of the first task (of values, how many
    there are), how many answers each task has.
    """
    first = heads[0]

    def counts(part: Images) -> dict[str, int]:
        return dict(zip(first.labels, _shown(first, part).sum(0).tolist(), strict=True))

    return {
        "source": source.name,
        "fingerprint": fingerprint,
        "labels": list(first.labels),
        "splits": {
            split: {
                "examples": len(part),
                "per_label": counts(part),
                "answers": {h.name: int((~np.isnan(part.targets[h.name]).any(-1)).sum()) for h in heads},
            }
            for split, part in images.items()
        },
        "made_splits": list(made),
        "split_seed": split_seed,
        "skipped": [message for part in images.values() for message in part.skipped],
        **reading.record(source, images),
        "duplicates_across_splits": duplicates,
        "image_size": images["train"].pixels.shape[1],
        "decode": DECODING,
    }


def write(
    folder: Path,
    model: "keras.Model",
    heads: Sequence[Head],
    given: Sequence[Task],
    images: Mapping[str, Images],
    history: Sequence[dict],
    facts: dict,
) -> None:
    """Measure `model` on the validation and test pictures and write all files but the report;
    run.json holds `facts`.
    """
    model = run.write_model(folder, model, images["validation"])
    outputs = {split: fit.predict(model, images[split])[0] for split in SPLITS[1:]}
    write_text(folder / "labels.txt", "".join(f"{label}\n" for label in heads[0].labels))
    described = preprocessing(heads, given, images["train"].pixels.shape[1])
    write_text(folder / "preprocessing.json", json.dumps(described, ensure_ascii=False, indent=2) + "\n")
    run.write_history(folder, history)
    _write_examples(folder, images, heads)
    metrics = {split: tasks.figures(heads, outputs[split], images[split]) for split in outputs}
    content = {
        "schema": run.SCHEMA,
        **run.with_membership(folder, facts, images),
        **run.concerns(facts, metrics["test"], heads),
        "metrics": metrics,
        "confusion": _confusion(heads, outputs["test"], images["test"]),
    }
    run.write_facts(folder, content)


def sharing(head: Head, together: Sequence[Mapping], alone: Sequence[Mapping], units: evaluation.Units = None) -> dict:
    """Whether a task gained from the others: the figures by seed, of the model for all tasks and of
    the one for it alone; `units` are what the test examples contribute to either.
    """
    shared = [head_evaluation.headline([head], figures["tasks"][head.name]) for figures in together]
    key = head_evaluation.measure_of(head)["key"]
    own = [head_evaluation.headline([head], figures) for figures in alone]
    return evaluation.sharing(head.name, key, shared, own, units)


def judged(heads: Sequence[Head], measured: Sequence[Mapping]) -> dict:
    """What run.json says of the figures by seed."""
    measures = [head_evaluation.measure_of(head) for head in heads]
    headlines = [head_evaluation.headline(heads, figures) for figures in measured]
    return {
        "measure": {**measures[0], "heads": measures},
        "test_accuracy_by_seed": [value for value in headlines if value is not None],
        "test_by_seed": head_evaluation.without_labels(measured),
    }


def examples_of(folder: Path, content: Mapping, data: str | None) -> tuple[Examples, Examples]:
    """(for measuring, for calibration) of the run in `folder`; as `recipes/runs/export_data.py` for
    one task.

    Raises:
        DataError, UnknownName: `data` was given and cannot be used.
        ArtifactError: what the run keeps cannot be read.
    """
    facts, size = content["data"], content["data"]["image_size"]
    described = read_json(Path(folder) / "preprocessing.json")
    kept = read_arrays(Path(folder) / "examples.npz")
    names = kept["calibration_names"].tolist()
    calibration = Examples(
        kept["calibration_images"], None, {"split": "train", "source": facts["source"], "names": names}
    )
    given = tasks_in(described)
    try:
        source = tasks.load(data or facts["source"], given, path_column=content["config"]["path_column"])
        seen = membership.beside(folder, facts)
        chosen = splits.reuse(source, "validation", facts, seen)
        of = len(chosen)
        if of > MOST_MEASURED:
            chosen = [chosen[i] for i in np.sort(np.random.default_rng(0).permutation(of)[:MOST_MEASURED])]
        targets = tasks.targets_of(heads_of(described), chosen)
        found = decode_pictures(chosen, targets, size, skip_bad=True, title="decode validation")
        if seen is not None:
            seen.refuse_decoded(found, "validation")
    except (DataError, ConfigError, UnknownName) as error:
        if data is not None:
            raise
        count = len(kept["parity_images"])
        warn(f"the files are measured on the {count} validation pictures that the run keeps, not "
            f"on all: {error}")
        targets = {name: kept[f"parity_target_{name}"] for name in described["outputs"]}
        facts = {"split": "validation", "source": "kept by the run", "of": facts["splits"]["validation"]["examples"]}
        return Examples(kept["parity_images"], targets, facts), calibration
    facts = {"split": "validation", "source": source.name, "of": of}
    kinds = {name: output["kind"] for name, output in described["outputs"].items()}
    said = export_data.stated(content, source, kinds, len(found))
    return Examples(found.pixels, found.targets, facts, stated=said), calibration


def _confusion(heads: Sequence[Head], outputs, images: Images) -> dict | None:
    """Of the first task that chooses one label of a picture."""
    for head in heads:
        if head.kind == "single_label":
            targets = images.targets[head.name]
            known = ~np.isnan(targets).any(-1)
            matrix = evaluation.confusion(outputs[head.name][known], targets[known])
            return {"split": "test", "labels": list(head.labels), "matrix": matrix}
    return None


def _write_examples(folder: Path, images: Mapping[str, Images], heads: Sequence[Head], seed: int = 0) -> None:
    """Pictures for the export's checks and, a few of each label of the first task, for the
    report.
    """
    train, validation = images["train"], images["validation"]
    rng = np.random.default_rng(seed)
    parity = np.sort(rng.permutation(len(validation))[: run.PARITY_EXAMPLES])
    calibration = np.sort(rng.permutation(len(train))[:CALIBRATION])
    run.save_arrays(
        folder / "examples.npz",
        parity_images=validation.pixels[parity],
        parity_names=np.array([validation.names[i] for i in parity], dtype=str),
        calibration_images=train.pixels[calibration],
        calibration_names=np.array([train.names[i] for i in calibration], dtype=str),
        **{f"parity_target_{head.name}": validation.targets[head.name][parity] for head in heads},
    )
    shown = [np.flatnonzero(rows)[: run.SAMPLES_PER_LABEL] for rows in _shown(heads[0], train).T]
    labels = np.repeat(np.arange(len(shown)), [len(part) for part in shown])
    run.save_arrays(folder / "samples.npz", images=train.pixels[np.concatenate(shown)], labels=labels)


def _shown(head: Head, images: Images) -> np.ndarray:
    """Whether a picture is one of each label of `head`, `(n, labels)`; of a value, of whatever
    sign, whether it is known.
    """
    targets = images.targets[head.name]
    return ~np.isnan(targets) if head.kind == "regression" else np.nan_to_num(targets) > 0
