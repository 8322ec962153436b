"""preprocessing.json: how an example becomes an input, and what the outputs mean. It comes with a
file of anyone, so it is read into what the rest relies on, or refused.
"""

from collections.abc import Mapping, Sequence

from graft.zoo.errors import ArtifactError
from graft.zoo.files.reading import parse_json

__all__ = ["HINT", "KINDS", "read_preprocessing"]

KINDS = ("single_label", "multi_label", "tags", "embedding", "regression")
"""What the numbers of an output can mean."""
NAMED = ("single_label", "multi_label", "tags")
"""Those of which each unit has a name."""
LONGEST = 1_000_000
HINT = "export again"


def read_preprocessing(
    text: str, where: object, outputs: Mapping[str, Sequence[int | None]], *, texts: bool = False
) -> dict:
    """What the JSON `text` of the artifact `where` says, checked against the shapes of its
    `outputs`; of `texts` it says how they become ids.

    Raises:
        ArtifactError: it is damaged, lacks something, or describes other outputs; names the field.
    """
    content = parse_json(text, f"{where}: preprocessing.json", dict, HINT)
    _check(content.get("kind", KINDS[0]) in KINDS, where, "kind", f"one of {', '.join(KINDS)}")
    described = content.get("outputs")
    if described is not None or texts:
        _check_outputs(described, where, outputs)
    for name in ("image_size", "max_length"):
        value = content.get(name)
        _check(value is None or _is_count(value), where, name, "a whole number")
    if texts:
        _check_texts(content, where)
    return content


def _check_outputs(
    described: object, where: object, outputs: Mapping[str, Sequence[int | None]]
) -> None:
    _check(
        isinstance(described, dict) and set(described) >= set(outputs),
        where,
        "outputs",
        "what each output means",
    )
    for name, shape in outputs.items():
        facts = described[name]
        _check(
            isinstance(facts, dict) and facts.get("kind") in KINDS,
            where,
            f"outputs.{name}.kind",
            "a known kind",
        )
        labels = facts.get("labels")
        are_texts = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
        _check(are_texts, where, f"outputs.{name}.labels", "a list of names")
        units = shape[-1] if len(shape) else None
        fits = facts["kind"] not in NAMED or units is None or len(labels) == units
        _check(fits, where, f"outputs.{name}.labels", f"{units} names, one for each unit")
        if facts["kind"] == "tags":
            tagged = all(label == "O" or label[:2] in ("B-", "I-") for label in labels)
            _check(tagged, where, f"outputs.{name}.labels", "O, B-NAME and I-NAME")


def _check_texts(content: Mapping, where: object) -> None:
    _check(_is_count(content.get("max_length")), where, "max_length", "a number of tokens")
    _check(isinstance(content.get("words"), bool | str | None), where, "words", "a rule for words")
    _check("words" in content, where, "words", "a rule for words")
    tokenizer = content.get("tokenizer")
    pad = tokenizer.get("pad_id") if isinstance(tokenizer, dict) else None
    _check(
        isinstance(pad, int) and not isinstance(pad, bool) and 0 <= pad < 2**31,
        where,
        "tokenizer.pad_id",
        "an id",
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LONGEST


def _check(right: bool, where: object, field: str, expected: str) -> None:
    if not right:
        raise ArtifactError(
            f"the preprocessing.json of '{where}' is damaged: expected '{field}' to be {expected}; "
            f"{HINT}"
        )
