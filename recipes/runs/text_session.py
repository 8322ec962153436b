"""Texts through an opened artifact: what predict, evaluate and export share. No TensorFlow but what
the artifact itself needs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graft.export.sessions import Session
from graft.recipes.data import sentences
from graft.recipes.data.sources import Source
from graft.recipes.codecs.texts import Texts, padded, token_inputs
from graft.zoo.heads import heads
from graft.zoo.errors import ArtifactError, CheckFailed, DataError
from graft.zoo.heads.heads import Head
from graft.zoo.heads.spans import spans
from graft.zoo.words import cut_words, given_words

__all__ = [
    "Text",
    "check_session",
    "check_text",
    "heads_of",
    "labelled",
    "longest",
    "outputs",
    "predict",
    "predict_batch",
    "said",
]

BATCH = 32
ROUNDING = 0.02
"""How far beyond 0 and 1 a probability of a file of 8 bits may lie."""
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
    """The sentences of `data`, with what `heads` are measured on; raises as `sentences.load`
    does.
    """
    kinds = {head.kind for head in heads}
    need = [what for what, known in (("label", kinds != {"tags"}), ("tags", "tags" in kinds)) if known]
    return sentences.load(data, need=need, columns=columns, several="multi_label" in kinds, to_train=False)


def longest(session: Session) -> int:
    """How many tokens the artifact takes."""
    fixed = session.input_shape[0]
    return min(filter(None, (fixed, session.preprocessing["max_length"])))


def outputs(session: Session, texts: Texts):
    """What `session` gives for `texts`, in the shape of `fit.predict`: rows, and of tags a row a
    token.
    """
    parts: dict[str, list] = {name: [] for name in session.outputs}
    for start in range(0, len(texts), BATCH):
        batch = padded(texts, range(start, min(start + BATCH, len(texts))), session.input_shape[0])
        found = session.predict(batch)
        found = found if isinstance(found, dict) else {session.outputs[0]: found}
        for name, rows in found.items():
            parts[name].append(rows[batch["padding_mask"] > 0] if rows.ndim == 3 else rows)
    joined = {name: np.concatenate(rows) for name, rows in parts.items()}
    return joined if len(joined) > 1 else joined[session.outputs[0]]


@dataclass(frozen=True)
class Text:
    """One text to be labelled.

    Attributes:
        text: as it came; words joined by blanks where it came as words.
        words: `(word, start, end)` in the text, where they are given; None: a model of tags cuts
            the text as its training did.
    """

    text: str
    words: tuple[tuple[str, int, int], ...] | None = None

    @classmethod
    def of_words(cls, words: Sequence[str]) -> "Text":
        """A text of these words.

        Raises:
            DataError: one is empty, or has a blank at an end.
        """
        bad = next((word for word in words if not word or word != word.strip()), None)
        if bad is not None:
            raise DataError(f"has {bad!r} for a word: expected words that are not empty, without "
                "blanks around them")
        text, pieces = given_words(words)
        return cls(text, tuple(pieces))

    @classmethod
    def split_at_blanks(cls, text: str) -> "Text":
        """A text whose words have blanks between them."""
        return cls(text, tuple(cut_words(text, "blanks")))


def check_text(text: str) -> None:
    """Refuse a text that cannot be labelled; the message goes on from what the text is called.

    Raises:
        DataError: it is empty, or holds half a character.
    """
    if not text.strip():
        raise DataError("is empty: give one that says something")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError("holds half a character, as of an emoji that was cut, or is not UTF-8") from error


def check_session(session: Session) -> None:
    """Refuse a model of texts that cannot read any.

    Raises:
        ArtifactError: it has no tokenizer, or does not say how texts go in.
    """
    if session.tokenizer is None or "outputs" not in session.preprocessing:
        raise ArtifactError(f"'{session.path}' has no tokenizer.json: export it again, or give the "
            "run")


def predict(session: Session, given: Sequence["str | Text"]) -> Iterator[dict]:
    """For each text `{"input", ...}` and what the heads say of it; of several heads by their names.
    One that is longer than the model looks at has `"truncated": True` too, one that its tokenizer
    cannot read `"unreadable": True`.

    Raises:
        DataError: a text is empty.
        ArtifactError: the artifact has no tokenizer.
    """
    check_session(session)
    texts = [text if isinstance(text, Text) else Text(text) for text in given]
    for number, text in enumerate(texts, 1):
        try:
            check_text(text.text)
        except DataError as error:
            raise DataError(f"text {number} of {len(texts)} {error}") from error
    for start in range(0, len(texts), BATCH):
        yield from predict_batch(session, texts[start : start + BATCH])


def predict_batch(session: Session, texts: Sequence[Text]) -> list[dict]:
    """The same for texts that are known to be good, all at once."""
    described, rule = session.preprocessing["outputs"], session.preprocessing["words"]
    words: list[Sequence[tuple[str, int, int]]] = [()] * len(texts)
    firsts: Sequence[np.ndarray | None] = [None] * len(texts)
    if rule:
        words = [cut_words(text.text, rule) if text.words is None else text.words for text in texts]
        asked = [[word for word, _, _ in row] for row in words]
        ids, firsts, cut = session.tokenizer.encode_words(asked, longest(session))
    else:
        asked = [text.text for text in texts]
        ids, cut = session.tokenizer.encode(asked, longest(session))
    longer = session.tokenizer.longer(asked, longest(session), bool(rule)) if cut else [False] * len(texts)
    pad_id = session.preprocessing["tokenizer"]["pad_id"]
    found = session.predict(token_inputs(ids, session.inputs, pad_id, session.input_shape[0]))
    found = found if isinstance(found, dict) else {session.outputs[0]: found}
    results = []
    for i, text in enumerate(texts):
        parts = {name: said(described[name], rows[i], words[i], firsts[i], text.text) for name, rows in found.items()}
        result = {"input": text.text, **(parts if len(parts) > 1 else next(iter(parts.values())))}
        unreadable = session.tokenizer.unknown_share([ids[i]]) > MOSTLY
        results.append(result | _marked(truncated=longer[i], unreadable=unreadable))
    return results


def _marked(**facts: bool) -> dict:
    """Those that are true."""
    return {name: True for name, value in facts.items() if value}


def said(
    head: Mapping,
    row: np.ndarray,
    words: Sequence[tuple[str, int, int]] = (),
    firsts: np.ndarray | None = None,
    text: str = "",
) -> dict:
    """What a head says of one example, in words; `words` (each with its place in `text`) and the
    pieces that begin them are of a sentence, for tags.

    Raises:
        CheckFailed: probabilities that are none.
    """
    labels = head["labels"]
    if head["kind"] in ("single_label", "multi_label") and (row.min() < -ROUNDING or row.max() > 1 + ROUNDING):
        raise CheckFailed(
            f"the model answers {float(row[np.abs(row).argmax()]):.3g} where a probability is "
            "expected: export it again "
            "from its .keras file, with --outputs logits if these are scores behind no softmax, or "
            "--outputs values"
        )
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
    entities = []
    for kind, first, end in sorted(spans(tags), key=lambda span: span[1]):
        begins, ends = named[first][1], named[end - 1][2]
        place = {"text": text[begins:ends], "start": begins, "end": ends}
        entities.append({"type": kind, **place, "probability": float(sure[first:end].min())})
    return {"words": [word for word, _, _ in named], "tags": tags, "entities": entities}


def _scores(labels: Sequence[str], row: np.ndarray) -> dict[str, float]:
    return dict(zip(labels, map(float, row), strict=True))
