"""The methods that there are, as data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from graft.recipes.train.joint import Method

__all__ = [
    "METHODS",
    "Row",
    "check",
    "check_batch",
    "check_channels",
    "check_length",
    "check_reach",
    "maker",
]


STRENGTHS = (1e-7, 1e7)
"""What a strength can be: beyond either end, float32 rounds the smaller of the two losses away."""


@dataclass(frozen=True)
class Row:
    """One way to learn from examples without labels.

    Attributes:
        kind: "joint": beside the labelled examples, by a loss of `recipes/adapt/methods.py`;
            "afterwards": by the function of `recipes/adapt/afterwards.py` of that name, on a
            trained model.
        of: the name of its class.
        paper: where it comes from.
        least: how many examples of either kind a step needs.
        features_alone: whether its loss moves nothing but features: not the last dense layer, which
            receives them.
        labels: whether it takes what the model is sure of for a label.
        strong: whether it also wants strongly changed versions, those of `pipeline.STRONG`.
    """

    kind: Literal["joint", "afterwards"]
    of: str
    paper: str
    least: int = 1
    features_alone: bool = False
    labels: bool = False
    strong: bool = False


METHODS: Mapping[str, Row] = {
    "dann": Row("joint", "Dann", "Ganin et al. 2016, arXiv:1505.07818", features_alone=True),
    "cdan": Row("joint", "Cdan", "Long et al. 2018, arXiv:1705.10667", features_alone=True),
    "coral": Row(
        "joint", "Coral", "Sun and Saenko 2016, arXiv:1607.01719", least=2, features_alone=True
    ),
    "mmd": Row("joint", "Mmd", "Long et al. 2015, arXiv:1502.02791", least=2),
    "pseudo_label": Row(
        "joint", "PseudoLabel", "Lee 2013; Berthelot et al. 2020, arXiv:1911.09785", labels=True
    ),
    "fixmatch": Row(
        "joint", "FixMatch", "Sohn et al. 2020, arXiv:2001.07685", labels=True, strong=True
    ),
    "adabn": Row("afterwards", "adabn", "Li et al. 2018, arXiv:1603.04779", least=2),
    "tent": Row("afterwards", "tent", "Wang et al. 2021, arXiv:2006.10726", least=2),
}


def check(
    names: Sequence[str], known: Sequence[str], strength: float, threshold: float | None
) -> None:
    """Refuse what cannot be trained.

    Raises:
        UnknownName: a name that is not in `known`.
        ConfigError: no name, or one twice; a strength or threshold outside its range.
    """
    for name in names:
        if name not in known:
            raise UnknownName("method", name, known)
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--methods needs one or more different ones of {', '.join(known)}")
    least, most = STRENGTHS
    if not least <= strength <= most:
        raise ConfigError(
            f"the --strength of a method is a number above 0, from {least:g} to {most:g}, not "
            f"{strength:g}"
        )
    # Probabilities are float32: what rounds to 1 is out of reach.
    if threshold is not None and not 0 < np.float32(threshold) < 1:
        raise ConfigError(
            f"the --threshold for a label to be taken is between 0 and 1, not {threshold}"
        )
    if threshold is not None and not any(METHODS[name].labels for name in names):
        takers = " or ".join(name for name in known if METHODS[name].labels)
        raise ConfigError(
            f"--threshold is for {takers}: leave it away, or name one of them in --methods"
        )
    if strength != 1 and all(METHODS[name].kind == "afterwards" for name in names):
        raise ConfigError(
            "--strength is for methods with a loss beside that of the labels, not "
            f"{' and '.join(names)}"
        )


def check_batch(names: Sequence[str], batch_size: int, counts: Mapping[str, int]) -> None:
    """Refuse a batch, or one of `counts` examples, that is smaller than a method needs.

    Raises:
        ConfigError: names the method.
    """
    for name in names:
        # What comes afterwards is shown nothing but unlabelled examples.
        for kind in ["unlabelled"] if METHODS[name].kind == "afterwards" else counts:
            found = min(batch_size, counts[kind])
            if found < METHODS[name].least:
                raise ConfigError(
                    f"{name} needs {METHODS[name].least} {kind} examples a step or more, and gets "
                    f"{found}: raise "
                    "--batch-size, or give more examples"
                )


def check_channels(names: Sequence[str], channels: int) -> None:
    """Refuse a method whose strong changes images of so many channels cannot be given.

    Raises:
        ConfigError: names the method.
    """
    for name in names:
        if channels == 4 and METHODS[name].strong:
            raise ConfigError(
                f"{name} changes images by randaugment, which a fourth channel beside the colours "
                f"cannot follow: leave {name} out of --methods"
            )


def check_reach(names: Sequence[str], phases: Sequence[Phase], hidden: int) -> None:
    """Refuse a method that could move nothing: of the last phase nothing trains before the last
    dense layer.

    Raises:
        ConfigError: names the method; or `hidden` is below 0.
    """
    if hidden < 0:
        raise ConfigError(f"--hidden is a number of units, 0 for none, not {hidden}")
    for name in names:
        if phases[-1].train == "head" and not hidden and METHODS[name].features_alone:
            raise ConfigError(
                f"{name} adapts features, and here they stay as they are: raise --hidden, take "
                "another --schedule than one "
                f"that ends with the head alone, or leave {name} out of --methods"
            )


def check_length(settings: FitSettings) -> None:
    """Refuse early stopping where the last epoch is kept.

    It waits for a better figure on labelled validation examples, and the only ones are of the
    source: that it gets no better says nothing of the target. A method's strength and the learning
    rate also follow the length of the phase, so that one that is cut off is another method; and
    methods and baseline are compared after as many epochs.

    Raises:
        ConfigError: it is asked for.
    """
    if settings.patience:
        raise ConfigError(
            "--patience waits for better validation figures, which are the source's alone where a "
            "model adapts to a target, "
            "so every training runs to its end: leave it away, or give fewer --epochs"
        )


def maker(name: str, strength: float, threshold: float | None) -> "Callable[[int, int], Method]":
    """(width of the features, number of labels) -> the method `name`, with fresh weights."""
    from graft.recipes.adapt import methods

    made, more = getattr(methods, METHODS[name].of), {}
    if threshold is not None and METHODS[name].labels:
        more["threshold"] = threshold
    return lambda width, labels: made(width, labels, strength, **more)
