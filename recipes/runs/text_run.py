"""What all recipes for text do once data and heads are known: train, compare, measure, write the
run directory.

Beside the files of `recipes/runs/run.py` a run for text holds

tokenizer.json, vocab.txt   what turns text into ids
preprocessing.json          how texts go in and what comes out, the same that every exported file carries
texts.json                  lengths, samples and mistakes for the report
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.train import divergence, fit, schedule
from graft.recipes.tasks import evaluation, head_evaluation, tfidf
from graft.recipes.codecs import hints
from graft.recipes.data import membership, reading, splits
from graft.recipes.report import report, wording
from graft.recipes.runs import run, workspace
from graft.zoo.terminal import say, tell, warn
from graft.recipes.data.sources import SPLITS, Source
from graft.recipes.report.text_report import for_report
from graft.recipes.runs.text_settings import TextConfig
from graft.recipes.codecs.texts import Texts, encode_splits, padded, padded_targets
from graft.zoo.backbones import encoders
from graft.zoo.backbones.encoder_table import Encoder
from graft.zoo.errors import ConfigError
from graft.zoo.files.guards import one_line_if_damaged
from graft.zoo.files.writing import write_text
from graft.zoo.heads.heads import Head, Tasks
from graft.zoo.graph.stack import stack
from graft.zoo.graph.state import set_weights
from graft.zoo.text import Tokenizer

if TYPE_CHECKING:
    import keras

__all__ = ["describe_backbone", "describe_data", "notice", "preprocessing", "summarize", "train_text", "write"]

LEAST_UPDATES = 100
"""Of a phase whose epochs nobody asked for."""


def train_text(recipe: str, config: TextConfig, source: Source, head: Head | Tasks, alone: Sequence[Head] = ()) -> Path:
    """Train `head` on the sentences of `source` as `config` says; returns the run directory.

    `alone` are heads to train by themselves too, so that the run can say whether sharing an encoder
    helped.
    """
    config.check()
    _check_options(config, head)
    row = encoders.find_encoder(config.backbone)
    spec = schedule.weights_for(config.schedule, config.weights, row.weights[0])
    phases = schedule.resolve(
        config.schedule,
        config.epochs,
        config.learning_rate,
        config.layer_decay,
        config.blocks,
        known={name: schedule.for_width(own, row.feature_dim) for name, own in schedule.TEXT_SCHEDULES.items()},
    )
    source, made = splits.complete(source, config.split_seed)
    fingerprint = splits.fingerprint(source)
    source = splits.take(source, config.per_class, config.fraction, config.split_seed)
    if config.epochs is None:
        steps = max(1, len(source.splits["train"]) // config.fit.batch_size)
        phases = schedule.lengthened(phases, steps, LEAST_UPDATES)
    if workspace.finished(config.out, run.plain(config)):
        return config.out
    tokenizer, max_length = encoders.load_tokenizer(row), min(config.max_length, row.max_length)
    seeds = range(config.seed, config.seed + config.seeds)

    def build(spec: str, head: Head | Tasks = head) -> "keras.Model":
        return stack(encoders.build_encoder(row, spec), head if isinstance(head, Tasks) else [head])

    with workspace.workspace(config.out, run.plain(config), fingerprint) as folder:
        heads = head.heads
        model = build(spec)
        described = fit.describe_phases(model, phases)
        duplicates = splits.warn_of_concerns(source, fingerprint, config.backbone, config.split_seed)
        store = workspace.store_beside(config.out)
        settings = {"inputs": [t.name for t in model.inputs], "max_length": max_length}
        texts = encode_splits(source, tokenizer, heads, **settings)
        say(reading.summary(source, texts, "sentence"))
        membership.warn_of_alike(texts)
        rule = texts["train"].word_rule
        if rule is not None and rule.warning:
            warn(rule.warning)
        warnings, hinted = notice(head, texts, row, config)
        say(schedule.table(f"{config.schedule} of {row.name} ({spec})", described, config.fit.budget))
        floor = tfidf.measure(heads, texts)

        def train(name: str, spec: str, phases, head=head, texts=texts):
            model, trained = fit.train(
                lambda: build(spec, head), head, phases, texts, seeds, config.fit, store=store, folder=folder, name=name
            )
            outputs = fit.predict(model, texts["test"], [result.weights for result in trained])
            figures = [head_evaluation.figures(head.heads, output, texts["test"]) for output in outputs]
            return trained, figures, _units(head.heads, outputs, texts["test"])

        trained, measured, units = train("transfer", spec, phases)
        arms = {"transfer": trained}
        scores = [head_evaluation.headline(heads, figures) for figures in measured]
        verdict = None
        if config.compare_scratch:
            epochs = config.scratch_epochs or sum(phase.epochs for phase in phases)
            from_nothing = schedule.resolve("scratch", epochs, known=schedule.TEXT_SCHEDULES)
            arms["scratch"], rival_figures, rival_units = train(
                "scratch", "none", schedule.for_width(from_nothing, row.feature_dim)
            )
            seconds = ([t.seconds for t in trained], [t.seconds for t in arms["scratch"]])
            rival_scores = [head_evaluation.headline(heads, figures) for figures in rival_figures]
            if None in (*scores, *rival_scores):
                warn("too few test examples to say whether transfer helps: no verdict")
            else:
                pair = _mean_units(units), _mean_units(rival_units)
                verdict = evaluation.verdict(
                    scores, rival_scores, seconds, None if any(part is None for part in pair) else pair
                )
        sharing = []
        for single in alone:
            own = encode_splits(source, tokenizer, [single], **settings)
            called = divergence.ALONE.format(task=single.name)
            arms[called], single_figures, single_units = train(called, spec, phases, single, own)
            apart = [head_evaluation.headline([single], figures) for figures in single_figures]
            together = [head_evaluation.headline([single], figures["tasks"][single.name]) for figures in measured]
            key, name = head_evaluation.measure_of(single)["key"], single.name
            pair = units[name], single_units[name]
            sharing.append(evaluation.sharing(name, key, together, apart, pair))
        best = fit.best_of(trained)
        model = build("none")
        set_weights(model, best.weights)
        facts = {
            "recipe": recipe,
            "modality": "text",
            **run.environment(),
            "config": run.plain(config),
            **run.shipped(best, config.schedule, described),
            "backbone": describe_backbone(row, spec, model),
            "data": describe_data(source, texts, made, config, fingerprint, duplicates, max_length, heads)
            | {"hints": hinted},
            "measure": {
                **head_evaluation.measure_of(heads[0]),
                "heads": [head_evaluation.measure_of(h) for h in heads],
            },
            "test_accuracy_by_seed": scores,
            "test_by_seed": head_evaluation.without_labels(measured),
            "trainings": divergence.trainings(arms),
            "verdict": verdict,
            "sharing": sharing,
            "warnings": warnings,
        }
        if len(heads) == 1:
            run.write_units(folder, units[heads[0].name])
        write(folder, model, heads, texts, tokenizer, source, best.history, facts, floor)
        report.write(folder)
    summarize(config.out)
    return config.out


def notice(
    head: Head | Tasks, texts: Mapping[str, Texts], row: Encoder, config: TextConfig
) -> tuple[list[str], list[str]]:
    """What is said of the texts before a training, `(warnings, hints)`: those that the tokenizer of
    `row` cannot read, the training texts and what else is learned from, and classes of unequal
    size.
    """
    learned = {name: part for name, part in texts.items() if name not in SPLITS[1:]}
    found = hints.unknown_tokens({"training" if name == "train" else name: part for name, part in learned.items()}, row)
    for text in found:
        warn(text)
    return found, hints.class_weights(head, texts["train"].targets, config.fit) if isinstance(head, Head) else []


def _units(heads: Sequence[Head], outputs: Sequence, texts: Texts) -> dict[str, np.ndarray]:
    """What each test example contributes to the figure of each head, `(seeds, n)` by its name."""
    found = {}
    for head in heads:
        several = len(heads) > 1
        targets = texts.targets[head.name] if several else texts.targets
        rows = [output[head.name] if several else output for output in outputs]
        found[head.name] = np.stack([evaluation.unit_scores(head, row, targets) for row in rows])
    return found


def _mean_units(units: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Those of the mean over the heads; None where one of them has no figure."""
    mean = np.mean(list(units.values()), 0)
    return mean if np.isfinite(mean).all() else None


def describe_backbone(row: Encoder, spec: str, model: "keras.Model") -> dict:
    """What the model is made of, where its weights came from, and its size with the heads."""
    return {
        "name": row.name,
        "family": row.family,
        "feature_dim": row.feature_dim,
        "max_length": row.max_length,
        "parameters": model.count_params(),
        "paper": row.paper,
        "licence": row.licence,
        "weights": encoders.describe_encoder(row, spec),
    }


def preprocessing(heads: Sequence[Head], texts: Texts, tokenizer: Tokenizer) -> dict:
    """How texts go into the model and what comes out: what another program needs to do the same.
    `words` is the rule of `zoo/words.py` that cuts a text into words to tag, False where there are
    none.
    """
    rule = texts.word_rule
    return {
        "modality": "text",
        "tokenizer": {"file": "tokenizer.json", "kind": tokenizer.kind, "pad_id": tokenizer.pad_id},
        "max_length": texts.max_length,
        "inputs": list(texts.inputs),
        "words": rule.name if rule else False,
        "outputs": {head.name: {"kind": head.kind, "labels": list(head.labels)} for head in heads},
    }


def summarize(folder: Path) -> None:
    """Print the outcome of a run to stdout: what it is judged by, verdicts, where things are."""
    content = run.read(folder)
    with one_line_if_damaged(Path(folder) / "run.json"):
        _tell_outcome(Path(folder), content)


def _tell_outcome(folder: Path, content: Mapping) -> None:
    figures = content["metrics"]["test"]
    heads = content["measure"]["heads"]
    parts = list(figures["tasks"].items()) if "tasks" in figures else [("", figures)]
    of_seeds = content["test_by_seed"]
    for (name, part), measure in zip(parts, heads, strict=True):
        value = part[measure["key"]]
        text = (
            f"test {name + ' ' if name else ''}{measure['name']} "
            f"{'not known' if value is None else f'{value:.3f}'}"
        )
        if len(of_seeds) > 1 and value is not None:
            values = [(f["tasks"][name] if name else f)[measure["key"]] for f in of_seeds]
            values = [value for value in values if value is not None]
            text += f" (seed {content['seed']}; {len(values)} seeds: mean {np.mean(values):.3f}, "
            text += f"{min(values):.3f} to {max(values):.3f})"
        tell(text)
        further = wording.further_text(part, measure["key"])
        if further:
            tell(further)
    for verdict in filter(None, [content["verdict"], *content["sharing"], content.get("counted_words")]):
        tell(verdict["text"])
    tell(f"report: {folder / 'report.html'}")


def _check_options(config: TextConfig, head: Head | Tasks) -> None:
    if config.fit.class_weights and not (isinstance(head, Head) and head.kind == "single_label"):
        raise ConfigError(
            "--class-weights is for one label a sentence: leave it away for tags, vectors and "
            "several labels"
        )
    config.fit.refuse("mixed_precision", "encoders of texts")


def describe_data(source, texts: Mapping[str, Texts], made, config, fingerprint, duplicates, max_length, heads) -> dict:
    """The data as they were used: counts by split and label, what was made, cut or found twice."""
    tagged = {tag for head in heads if head.kind == "tags" for tag in head.labels}
    labels = list(source.labels) or sorted({tag[2:] for tag in tagged if tag != "O"})

    def counts(split: str) -> dict[str, int]:
        found = Counter(
            name
            for s in source.splits[split]
            for name in (s.labels if source.labels else [tag[2:] for tag in s.tags if tag[0] == "B"])
        )
        return {label: found[label] for label in labels}

    return {
        "source": source.name,
        "fingerprint": fingerprint,
        "labels": labels,
        "splits": {
            split: {
                "examples": len(part),
                "per_label": counts(split),
                "truncated": part.truncated,
                "unknown_share": part.unknown_share,
            }
            for split, part in texts.items()
        },
        "made_splits": list(made),
        "split_seed": config.split_seed,
        "skipped": [],
        **reading.record(source, texts),
        "duplicates_across_splits": duplicates,
        "max_length": max_length,
    }


def write(
    folder,
    model,
    heads,
    texts,
    tokenizer,
    source,
    history,
    facts,
    floor=None,
    target=None,
    unlabelled: Texts | None = None,
) -> None:
    """Measure `model` on the validation and test sentences and write all files but the report;
    run.json holds `facts`.

    `floor` is what counted words say of the test sentences, or of those of the `target` where the
    model is for them; `unlabelled` are sentences that it has seen without their labels.
    """
    model = run.write_model(folder, model, texts["validation"])
    outputs = {split: fit.predict(model, texts[split])[0] for split in SPLITS[1:]}
    write_text(folder / "labels.txt", "".join(f"{label}\n" for label in heads[0].labels))
    write_text(folder / "tokenizer.json", tokenizer.json)
    write_text(folder / "vocab.txt", "".join(f"{piece}\n" for piece in tokenizer.vocabulary))
    described = preprocessing(heads, texts["train"], tokenizer)
    write_text(folder / "preprocessing.json", json.dumps(described, ensure_ascii=False, indent=2) + "\n")
    run.write_history(folder, history)
    _write_examples(folder, texts)
    shown = for_report(model, heads, outputs["test"], texts, tokenizer, source)
    write_text(folder / "texts.json", json.dumps(shown, ensure_ascii=False) + "\n")
    metrics = {split: head_evaluation.figures(heads, outputs[split], texts[split]) for split in outputs}
    content = {
        "schema": run.SCHEMA,
        **run.with_membership(folder, facts, texts if unlabelled is None else {**texts, "unlabelled": unlabelled}),
        **run.concerns(facts, metrics["test"], heads),
        "metrics": metrics,
        "counted_words": None,
        "confusion": _confusion(heads, outputs["test"], texts["test"]),
    }
    if floor is not None:
        answers = outputs["test"] if target is None else fit.predict(model, target)[0]
        answers = answers if len(heads) == 1 else answers[floor.head.name]
        content["counted_words"] = tfidf.compare(floor, answers)
    run.write_facts(folder, content)


def _confusion(heads: Sequence[Head], outputs, texts: Texts) -> dict | None:
    """Of the first head that chooses one label of a sentence."""
    for head in heads:
        if head.kind == "single_label":
            rows, targets = (
                (outputs, texts.targets) if len(heads) == 1 else (outputs[head.name], texts.targets[head.name])
            )
            return {"split": "test", "labels": list(head.labels), "matrix": evaluation.confusion(rows, targets)}
    return None


def _write_examples(folder: Path, texts: Mapping[str, Texts], seed: int = 0) -> None:
    """Ids for the export's checks: 64 validation sentences for parity, 200 training sentences for
    calibration.
    """
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, split, count in (
        ("parity", "validation", run.PARITY_EXAMPLES),
        ("calibration", "train", run.CALIBRATION),
    ):
        part = texts[split]
        chosen = np.sort(rng.permutation(len(part))[:count])
        arrays |= {f"{name}_{key}": value for key, value in padded(part, chosen).items()}
        arrays[f"{name}_names"] = np.array([part.names[i] for i in chosen], dtype=str)
        arrays |= {f"{name}_target_{key}": value for key, value in padded_targets(part, chosen).items()}
    run.save_arrays(folder / "examples.npz", **arrays)
