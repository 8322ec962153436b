"""What a training is told about its data before it begins: texts that its tokenizer cannot read,
classes of unequal size. No TensorFlow.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from graft.recipes.codecs.targets import Targets
from graft.recipes.codecs.text_codec import MOST_UNKNOWN
from graft.recipes.codecs.texts import Texts
from graft.recipes.tasks.group import Tasks
from graft.recipes.train.settings import FitSettings
from graft.zoo.backbones.encoder_table import ENCODER_FAMILIES
from graft.zoo.backbones.encoders import ENCODERS, Encoder
from graft.zoo.terminal import say
from graft.zoo.text import script_shares

__all__ = ["class_weights", "unknown_tokens"]

UNEQUAL = 4
"""Times as many training examples of the largest class as of the smallest from which weights are
worth a try.
"""
LOOKED_AT = 2000
"""Texts whose letters say which script it is."""


def unknown_tokens(parts: Mapping[str, Texts], row: Encoder) -> list[str]:
    """A warning of those of `parts`, texts by what they are called, of which the tokenizer of `row`
    reads too little; names encoders that read more. Empty where it reads all of them.
    """
    unread = {name: texts for name, texts in parts.items() if texts.unknown_share > MOST_UNKNOWN}
    if not unread:
        return []
    shares = " and ".join(
        f"{texts.unknown_share:.1%} of the tokens of the {name} texts{_letters(texts.sentences)}"
        for name, texts in unread.items()
    )
    return [
        f"{shares} are unknown ([UNK]) to the tokenizer of '{row.name}' and tell the model "
        f"nothing: {_instead(row)}"
    ]


def _letters(sentences: Sequence[str]) -> str:
    """ " (81 % of their letters are Arabic)", "" where most letters are Latin."""
    script, share = next(
        iter(script_shares(sentences[:: max(1, len(sentences) // LOOKED_AT)]).items()),
        ("LATIN", 0.0),
    )
    name = "Chinese characters" if script == "CJK" else script.capitalize()
    return "" if script == "LATIN" else f" ({share:.0%} of their letters are {name})"


def _instead(row: Encoder) -> str:
    others = [other.name for other in ENCODERS if other.multilingual and other.name != row.name]
    readable = ", ".join(
        family.hugging_face for family in ENCODER_FAMILIES.values() if family.converted
    )
    return (
        f"take a multilingual encoder, --backbone {', '.join(others)} (`graft zoo` lists them), or "
        "--backbone FOLDER with a "
        f"KerasHub preset or a Hugging Face model (type {readable}) that was trained on such texts"
    )


def class_weights(tasks: Tasks, targets: Targets, settings: FitSettings) -> list[str]:
    """A hint at `--class-weights`, said and returned, where the training `targets` of a single task
    that chooses one label are of very unequal classes and the option is not on; else nothing.
    """
    task = tasks.first
    if len(tasks) > 1 or not task.chooses or settings.class_weights:
        return []
    labels, targets = task.labels, targets[task.name]
    counts = np.asarray(targets).sum(0).round().astype(int)
    counted = np.flatnonzero(counts)
    most, least = counted[counts[counted].argmax()], counted[counts[counted].argmin()]
    if counts[most] < UNEQUAL * counts[least]:
        return []
    text = (
        f"'{labels[most]}' has {counts[most] / counts[least]:,.1f} times as many training "
        "examples as "
        f"'{labels[least]}' ({counts[most]:,} and {counts[least]:,}): --class-weights weights "
        "each class by the "
        "inverse of its frequency; look at the balanced accuracy, not at the accuracy alone"
    )
    _say_hint(text)
    return [text]


def _say_hint(text: str) -> None:
    """Print a hint, a line on stderr."""
    from rich.markup import escape

    say(f"hint: {escape(text)}")
