"""Freezing as data: which blocks train, for how long, at which rate.

A schedule is a tuple of phases. The named ones follow the literature; each is a function of
nothing, so that what is written here is what runs. `with_epochs` stretches a schedule to another
length and keeps its proportions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from graft.zoo.errors import ConfigError, UnknownName
from graft.zoo.shown import shown

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "DENSE_SCHEDULES",
    "SCHEDULES",
    "TEXT_SCHEDULES",
    "Phase",
    "for_width",
    "lengthened",
    "resolve",
    "table",
    "weights_for",
    "with_epochs",
]


@dataclass(frozen=True)
class Phase:
    """One stretch of training with a fixed set of trained weights.

    Attributes:
        name: what tables and history call it.
        train: "head", a number of blocks from the top, a share of them in (0, 1), or "all".
        epochs: passes over the training data.
        learning_rate: the peak rate; it is warmed up and then falls to zero along a cosine within
            the phase.
        batch_norm: BatchNormalization inside the trained blocks: "inference" keeps statistics,
            scale and offset as they came, "train" trains them (needed where the weights start at
            random).
        layer_decay: each block learns at this share of the rate of the one above it, in (0, 1].
        adapt: what of the trained blocks changes: "weights"; "bias", their biases, scales and
            offsets alone (BitFit, Zaken et al. 2022, arXiv:2106.10199); or "lora", low-rank
            additions to the queries and values of attention (Hu et al. 2021, arXiv:2106.09685),
            which are merged into the weights afterwards.
    """

    name: str
    train: int | float | Literal["head", "all"]
    epochs: int
    learning_rate: float
    batch_norm: Literal["inference", "train"] = "inference"
    layer_decay: float = 1.0
    adapt: Literal["weights", "bias", "lora"] = "weights"


SCHEDULES: Mapping[str, tuple[Phase, ...]] = {
    # The backbone stays as it is; only the head learns (Donahue et al. 2014, arXiv:1310.1531).
    # Length and rate were chosen on the validation split of clothing_small:
    # benchmarks/results/clothing_small.md.
    "feature_extraction": (Phase("head", "head", 20, 2e-3),),
    # A head first, so that random gradients do not wreck the backbone; then its upper half
    # (Yosinski et al. 2014).
    "fine_tune": (Phase("head", "head", 3, 1e-3), Phase("top half", 0.5, 7, 3e-4)),
    # From the top down, a few blocks at a time (ULMFiT, Howard and Ruder 2018, arXiv:1801.06146).
    "gradual_unfreeze": (
        Phase("head", "head", 3, 1e-3),
        Phase("2 blocks", 2, 2, 3e-4),
        Phase("4 blocks", 4, 2, 2e-4),
        Phase("6 blocks", 6, 3, 1e-4),
    ),
    # Linear probing, then everything (LP-FT, Kumar et al. 2022, arXiv:2202.10054).
    "probe_then_tune": (Phase("probe", "head", 4, 1e-3), Phase("all", "all", 6, 1e-4)),
    # Everything at once, from pretrained weights.
    "full": (Phase("all", "all", 10, 3e-4, batch_norm="train"),),
    # Everything at once, from random weights: the baseline that transfer has to beat.
    "scratch": (Phase("scratch", "all", 10, 3e-3, batch_norm="train"),),
}

DENSE_SCHEDULES: Mapping[str, tuple[Phase, ...]] = {
    # The same names for boxes and masks: a head of many layers, which begins at random, learns
    # longer and at a rate at which a classifier's would break. Chosen on the validation split of
    # bccd_detection: benchmarks/results/dense.md.
    "feature_extraction": (Phase("head", "head", 36, 1e-2),),
    "fine_tune": (Phase("head", "head", 24, 1e-2), Phase("top half", 0.5, 16, 1e-3)),
    "gradual_unfreeze": (
        Phase("head", "head", 20, 1e-2),
        Phase("2 blocks", 2, 6, 1e-3),
        Phase("4 blocks", 4, 6, 1e-3),
        Phase("6 blocks", 6, 8, 5e-4),
    ),
    "probe_then_tune": (Phase("probe", "head", 24, 1e-2), Phase("all", "all", 12, 5e-4)),
    "full": (Phase("all", "all", 30, 1e-3, batch_norm="train"),),
    "scratch": (Phase("scratch", "all", 40, 3e-3, batch_norm="train"),),
}

TEXT_SCHEDULES: Mapping[str, tuple[Phase, ...]] = {
    # The same names for encoders of text: fewer passes, and rates at which attention does not
    # break.
    "feature_extraction": (Phase("head", "head", 20, 1e-2),),
    "fine_tune": (Phase("head", "head", 2, 1e-2), Phase("top half", 0.5, 3, 1e-4)),
    "gradual_unfreeze": (
        Phase("head", "head", 2, 1e-2),
        Phase("1 block", 1, 1, 2e-4),
        Phase("2 blocks", 2, 1, 1e-4),
        Phase("3 blocks", 3, 1, 1e-4),
    ),
    "probe_then_tune": (Phase("probe", "head", 3, 1e-2), Phase("all", "all", 3, 5e-5)),
    "full": (Phase("all", "all", 3, 1e-4),),
    "lora": (Phase("lora", "all", 3, 1e-3, adapt="lora"),),
    "bias": (Phase("biases", "all", 3, 1e-3, adapt="bias"),),
    "scratch": (Phase("scratch", "all", 10, 5e-4),),
}


def resolve(
    name: str,
    epochs: int | None = None,
    learning_rate: float | None = None,
    layer_decay: float | None = None,
    blocks: int | None = None,
    *,
    known: Mapping[str, tuple[Phase, ...]] = SCHEDULES,
) -> tuple[Phase, ...]:
    """The one of `known` called `name`, with `epochs` in total, `learning_rate` as the peak of its
    last phase, `layer_decay`, and a last phase that trains `blocks` blocks.

    The rates of the other phases keep their proportion to the last one; None leaves what the
    schedule says.

    Raises:
        UnknownName: no schedule of this name.
        ConfigError: too few epochs, a rate that is not above 0, a layer decay outside (0, 1], or
            blocks for a schedule that tunes none.
    """
    if name not in known:
        raise UnknownName("schedule", name, known)
    phases = known[name]
    if epochs is not None:
        phases = with_epochs(phases, epochs)
    if learning_rate is not None:
        if learning_rate <= 0:
            raise ConfigError(f"the learning rate must be above 0, not {learning_rate}")
        scale = learning_rate / phases[-1].learning_rate
        phases = tuple(
            replace(phase, learning_rate=phase.learning_rate * scale) for phase in phases
        )
    if layer_decay is not None:
        if not 0 < layer_decay <= 1:
            raise ConfigError(f"the layer decay must be above 0 and at most 1, not {layer_decay}")
        phases = tuple(replace(phase, layer_decay=layer_decay) for phase in phases)
    return phases if blocks is None else _with_blocks(name, phases, blocks)


def weights_for(name: str, given: str | None, default: str) -> str:
    """The SPEC of the weights that the schedule `name` begins with: those `given`, or the
    `default`; for scratch none.

    Raises:
        ConfigError: weights for scratch.
    """
    if name != "scratch":
        return given or default
    if given not in (None, "none"):
        raise ConfigError(
            f"--schedule scratch begins with random weights: leave --weights {given} away"
        )
    return "none"


def _with_blocks(name: str, phases: tuple[Phase, ...], blocks: int) -> tuple[Phase, ...]:
    """The same phases; the last one trains `blocks` blocks, and no phase before it more of a given
    number.
    """
    if blocks < 1:
        raise ConfigError(f"the number of --blocks must be at least 1, not {blocks}")
    if phases[-1].train == "head" or name == "scratch":
        tuned = "all of them" if name == "scratch" else "none"
        raise ConfigError(
            f"--blocks says how many blocks are tuned; the schedule {name} tunes {tuned}"
        )
    fewer = [
        replace(p, train=min(p.train, blocks)) if isinstance(p.train, int) else p
        for p in phases[:-1]
    ]
    return (*fewer, replace(phases[-1], train=blocks))


def with_epochs(phases: Sequence[Phase], epochs: int) -> tuple[Phase, ...]:
    """The same phases, `epochs` in total, in about the same proportions, each at least one epoch
    long.

    Raises:
        ConfigError: fewer epochs than phases.
    """
    if epochs < len(phases):
        raise ConfigError(
            f"{epochs} epoch(s) cannot be spread over {len(phases)} phases "
            f"({', '.join(p.name for p in phases)}): "
            f"give --epochs {len(phases)} or more"
        )
    total = sum(phase.epochs for phase in phases)
    exact = [epochs * phase.epochs / total for phase in phases]
    shares = [max(1, int(share)) for share in exact]
    while (left := epochs - sum(shares)) != 0:  # to whom rounding took most, from whom it gave most
        step = 1 if left > 0 else -1
        open_to = [i for i, share in enumerate(shares) if share + step >= 1]
        chosen = max(open_to, key=lambda i: step * (exact[i] - shares[i]))
        shares[chosen] += step
    return tuple(replace(phase, epochs=share) for phase, share in zip(phases, shares, strict=True))


def for_width(phases: Sequence[Phase], width: int) -> tuple[Phase, ...]:
    """`TEXT_SCHEDULES` are written for encoders of width 384; the rates of what lies below the head
    for another `width`.

    They fall with its square: 2.5e-5 for 768 and 9e-4 for 128 where 384 takes 1e-4, which is what
        such encoders are usually
    tuned at (Turc et al. 2019, arXiv:1908.08962; Devlin et al. 2019), and what validation chose for
    the bundled one.
    """
    factor = min(10.0, max(0.1, (384 / width) ** 2))
    return tuple(
        p if p.train == "head" else replace(p, learning_rate=p.learning_rate * factor)
        for p in phases
    )


def lengthened(phases: Sequence[Phase], steps: int, least: int) -> tuple[Phase, ...]:
    """The same phases, each long enough for `least` updates, where an epoch has `steps`: few
    examples need more passes.
    """
    return tuple(replace(phase, epochs=max(phase.epochs, -(-least // steps))) for phase in phases)


def table(title: str, rows: Sequence[Mapping], budget: str | None = None) -> "Table":
    """A schedule as a table for the terminal; `rows` as `fit.describe_phases` makes them. With a
    `budget` of time the epochs are shares of it.
    """
    from rich.table import Table
    from rich.text import Text

    from graft.zoo.terminal import table_row

    length = "epochs" if budget is None else f"of {budget}"
    drawn = Table(
        "phase",
        "trains",
        "trainable parameters",
        length,
        "rate",
        "batch norm",
        title=Text(shown(title)),
    )
    total = sum(row["epochs"] for row in rows)
    for row in rows:
        blocks = (
            f"head + {row['blocks']} of {row['total_blocks']} blocks" if row["blocks"] else "head"
        )
        share = f"{row['trainable_parameters']:,} of {row['total_parameters']:,}"
        epochs = str(row["epochs"]) if budget is None else f"{row['epochs'] / total:.0%}"
        table_row(
            drawn,
            row["name"],
            blocks,
            share,
            epochs,
            f"{row['learning_rate']:.1e}",
            row["batch_norm"],
        )
    return drawn
