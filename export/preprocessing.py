"""preprocessing.json: how an example becomes an input, and what the outputs mean. It comes with a
file of anyone, so it is read into what the rest relies on, or refused.
"""

from collections.abc import Mapping, Sequence

from graft.zoo.errors import ArtifactError
from graft.zoo.files.reading import parse_json
from graft.zoo.fits import FITS, MODES, STRETCH, is_image_size
from graft.zoo.heads.table import KINDS, find_kind, kind_names

__all__ = ["HINT", "read_preprocessing"]

LONGEST = 1_000_000
HINT = "export again"


Shapes = Mapping[str, Sequence[int | None]]
"""Output -> its shape without batch."""


def read_preprocessing(
    text: str, where: object, outputs: Shapes, labels: Sequence[str] = (), *, texts: bool = False
) -> dict:
    """What the JSON `text` of an artifact says, checked against the shapes of its outputs.

    Args:
        text: the content of preprocessing.json.
        where: what messages call the artifact.
        outputs: the shapes of its outputs, by name.
        labels: those of its labels.txt.
        texts: whether it has to say how texts become ids.

    Returns:
        The content, with "modality", of images with "fit", and with "tasks": `{output: {"kind",
        "labels", ...}}`, as an older Graft did not write it everywhere. Of several outputs without
        a word "tasks" is empty.

    Raises:
        ArtifactError: it is damaged, lacks something, or describes other outputs; names the field.
    """
    content = parse_json(text, f"{where}: preprocessing.json", dict, HINT)
    field = "outputs" if "outputs" in content and "tasks" not in content else "tasks"
    tasks = content.get(field)
    if tasks is None and not texts and len(outputs) == 1:
        kind = content.get("kind", KINDS[0].name)
        known = kind in kind_names()
        _check(known, where, "kind", f"one of {', '.join(kind_names())}")
        content["tasks"] = {name: {"kind": kind, "labels": list(labels)} for name in outputs}
    elif tasks is not None or texts:
        _check_tasks(tasks, where, field, outputs)
        content["tasks"] = tasks
    else:
        content["tasks"] = {}
    content.setdefault("modality", "text" if texts else "image")
    size, longest = content.get("image_size"), content.get("max_length")
    _check(size is None or is_image_size(size), where, "image_size", "a number or [height, width]")
    _check(longest is None or _is_count(longest), where, "max_length", "a whole number")
    if texts:
        _check_texts(content, where)
    else:
        fit = content.setdefault("fit", STRETCH)
        _check(fit in FITS, where, "fit", f"one of {', '.join(FITS)}")
        channels = content.get("channels", 3)
        known = _is_count(channels) and channels in MODES
        _check(known, where, "channels", f"one of {', '.join(map(str, MODES))}")
    return content


def _check_tasks(tasks: object, where: object, field: str, outputs: Shapes) -> None:
    given: dict = tasks if isinstance(tasks, dict) else {}
    named = {name for task, facts in given.items() for name in (task, *_files_of(task, facts))}
    _check(named >= set(outputs) and bool(given), where, field, "what each output means")
    for name, facts in given.items():
        known = isinstance(facts, dict) and facts.get("kind") in kind_names()
        _check(known, where, f"{field}.{name}.kind", "a known kind")
        kind, labels = find_kind(facts["kind"]), facts.get("labels")
        are_texts = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
        _check(are_texts, where, f"{field}.{name}.labels", "a list of names")
        shape = outputs.get(name, ())
        units = shape[-1] if len(shape) else None
        fits = not kind.named or units is None or len(labels) == units
        _check(fits, where, f"{field}.{name}.labels", f"{units} names, one for each unit")
        fault = kind.fault_of_labels(labels)
        _check(fault is None, where, f"{field}.{name}.labels", str(fault))


def _files_of(task: str, facts: object) -> tuple[str, ...]:
    """What the outputs of a file are called that hold the answers of a task."""
    known = isinstance(facts, dict) and facts.get("kind") in kind_names()
    return find_kind(facts["kind"]).file_outputs(task) if known else ()


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
