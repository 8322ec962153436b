"""Texts through an opened artifact: what predict, evaluate and export share. No TensorFlow but what the artifact itself
needs."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from export.sessions import Session
from recipes.engine import sentences
from recipes.engine.progress import warn
from recipes.engine.sources import Source
from recipes.engine.texts import Texts, padded, token_inputs
from zoo import heads
from zoo.errors import ArtifactError, DataError
from zoo.heads import Head
from zoo.spans import spans
from zoo.text import split_words

__all__ = ["heads_of", "labelled", "longest", "outputs", "predict", "said"]

BATCH = 32
MOSTLY = 0.5
"""Share of unknown tokens above which a text is one that the tokenizer cannot read."""


def heads_of(preprocessing: Mapping) -> tuple[Head, ...]:
    """The heads that an artifact describes, for their names, labels and figures."""
    made = {"single_label": heads.single_label, "multi_label": heads.multi_label, "tags": heads.tags}
    made["regression"] = heads.regression
    return tuple(
        made[facts["kind"]](facts["labels"], name=name) if facts["kind"] in made else heads.embedding(1, name=name)
        for name, facts in preprocessing["outputs"].items()
    )


def labelled(heads: Sequence[Head], data: str, columns: sentences.Columns) -> Source:
    """The sentences of `data`, with what `heads` are measured on; raises as `sentences.load` does."""
    kinds = {head.kind for head in heads}
    need = [what for what, known in (("label", kinds != {"tags"}), ("tags", "tags" in kinds)) if known]
    return sentences.load(data, need=need, columns=columns, several="multi_label" in kinds, to_train=False)


def longest(session: Session) -> int:
    """How many tokens the artifact takes."""
    fixed = session.input_shape[0]
    return min(filter(None, (fixed, session.preprocessing["max_length"])))


def outputs(session: Session, texts: Texts):
    """What `session` gives for `texts`, in the shape of `fit.predict`: rows, and of tags a row a token."""
    parts: dict[str, list] = {name: [] for name in session.outputs}
    for start in range(0, len(texts), BATCH):
        batch = padded(texts, range(start, min(start + BATCH, len(texts))), session.input_shape[0])
        found = session.predict(batch)
        found = found if isinstance(found, dict) else {session.outputs[0]: found}
        for name, rows in found.items():
            parts[name].append(rows[batch["padding_mask"] > 0] if rows.ndim == 3 else rows)
    joined = {name: np.concatenate(rows) for name, rows in parts.items()}
    return joined if len(joined) > 1 else joined[session.outputs[0]]


def predict(session: Session, given: Sequence[str]) -> Iterator[dict]:
    """For each text `{"input", ...}` and what the heads say of it; of several heads by their names. Warns at the end of
    texts that the tokenizer cannot read.

    Raises:
        DataError: a text is empty.
        ArtifactError: the artifact has no tokenizer.
    """
    if session.tokenizer is None:
        raise ArtifactError(f"'{session.path}' has no tokenizer.json: export it again, or give the run")
    for number, text in enumerate(given, 1):
        if not text.strip():
            raise DataError(f"text {number} of {len(given)} is empty: give one that says something")
    described, unreadable = session.preprocessing["outputs"], 0
    for start in range(0, len(given), BATCH):
        texts = list(given[start : start + BATCH])
        words = [split_words(text) for text in texts]
        if session.preprocessing["words"]:
            ids, firsts, _ = session.tokenizer.encode_words(words, longest(session))
        else:
            ids, _ = session.tokenizer.encode(texts, longest(session))
            firsts = [None] * len(texts)
        unreadable += sum(session.tokenizer.unknown_share([row]) > MOSTLY for row in ids)
        pad_id = session.preprocessing["tokenizer"]["pad_id"]
        found = session.predict(token_inputs(ids, session.inputs, pad_id, session.input_shape[0]))
        found = found if isinstance(found, dict) else {session.outputs[0]: found}
        for i, text in enumerate(texts):
            parts = {name: said(described[name], found[name][i], words[i], firsts[i]) for name in found}
            yield {"input": text, **(parts if len(parts) > 1 else next(iter(parts.values())))}
    if unreadable:
        warn(
            f"{unreadable:,} of {len(given):,} texts are mostly unknown ([UNK]) to the model's tokenizer: do not trust what "
            "it says of them"
        )


def said(head: Mapping, row: np.ndarray, words: Sequence[str] = (), firsts: np.ndarray | None = None) -> dict:
    """What a head says of one example, in words; `words` and where they begin are of a sentence, for tags."""
    labels = head["labels"]
    if head["kind"] == "regression":
        return {"value": float(row[0])} if len(row) == 1 else {"values": _scores(labels, row)}
    if head["kind"] == "single_label":
        best = int(row.argmax())
        return {"label": labels[best], "probability": float(row[best]), "scores": _scores(labels, row)}
    if head["kind"] == "multi_label":
        return {
            "labels": [label for label, p in zip(labels, row, strict=True) if p >= 0.5],
            "scores": _scores(labels, row),
        }
    if head["kind"] == "embedding":
        return {"embedding": [float(value) for value in row]}
    places = np.flatnonzero(firsts >= 0)
    named = [words[firsts[place]] for place in places]  # a word that has no piece, as a joiner of emoji, has no tag
    chosen = row[places].argmax(-1)
    tags = [labels[tag] for tag in chosen]
    sure = row[places, chosen]
    entities = [
        {"type": kind, "text": " ".join(named[first:end]), "probability": float(sure[first:end].min())}
        for kind, first, end in sorted(spans(tags), key=lambda span: span[1])
    ]
    return {"words": named, "tags": tags, "entities": entities}


def _scores(labels: Sequence[str], row: np.ndarray) -> dict[str, float]:
    return dict(zip(labels, map(float, row), strict=True))
