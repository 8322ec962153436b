"""A class for each pixel: the kind of answer and its head.

What trains is a small map of logits, at the stride of the finest level that the head reads. A file
enlarges it to the size of the image and gives probabilities; the loss compares it at that size too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np

from graft.zoo.errors import ConfigError
from graft.zoo.heads.columns import MeanOf
from graft.zoo.heads.head import Head, Level, check_options
from graft.zoo.heads.kind import Kind, Scorer
from graft.zoo.heads.masks import mask_scores
from graft.zoo.heads.scores import Score, share
from graft.zoo.heads.single_label import SINGLE_LABEL

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

__all__ = [
    "MASKS",
    "MOST_CLASSES",
    "Decoder",
    "Joining",
    "Masks",
    "class_maps",
    "enlarged",
    "masks",
]

Joining = Literal["lraspp", "unet"]
"""How levels become a map: Lite R-ASPP (Howard et al. 2019, arXiv:1905.02244, figure 10), or
step by step from the coarsest to the finest as U-Net (Ronneberger et al. 2015, arXiv:1505.04597),
with depthwise convolutions.
"""
MOST_CLASSES = 255
"""Of a mask: `mask_scores.IGNORED` is none."""
MOST_COMPARED = 2**21
"""Pixels that are compared number by number, at most: each so many-th one."""


@dataclass(frozen=True)
class Decoder:
    """From levels to a map.

    Attributes:
        joining: how levels are joined.
        strides: of the levels that are read, from the finest.
        channels: of the maps in between.
    """

    joining: Joining = "unet"
    strides: tuple[Level, ...] = (4, 8, 16)
    channels: int = 64

    def check(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ConfigError: names the option.
        """
        if self.joining not in get_args(Joining):
            raise ConfigError(
                f"no decoder is called '{self.joining}': {', '.join(get_args(Joining))}"
            )
        if self.channels < 1 or len(self.strides) < 2:
            raise ConfigError(
                "a decoder reads two levels or more and has 1 channel or more, not "
                f"{len(self.strides)} and {self.channels}"
            )


class Masks(Kind):
    """Probabilities of classes for each pixel, `(n, height, width, classes)`, of a file; truth is
    uint8 `(n, height, width, 1)`, `IGNORED` where it is not known.
    """

    name: ClassVar[str] = "masks"
    figure: ClassVar[str] = "mIoU"
    key: ClassVar[str] = "mean_iou"
    agreement: ClassVar[str] = "pixels as Keras has them"
    vision_task: ClassVar[Literal["", "segmenter", "detector"]] = "segmenter"

    def ship(self, name: str, values: "tf.Tensor", size: tuple[int, int]) -> "dict[str, tf.Tensor]":
        """Probabilities of the size of the image."""
        import tensorflow as tf

        return {name: tf.nn.softmax(tf.image.resize(values, size))}

    def float_layers(self, name: str) -> tuple[str, ...]:
        """What enlarges maps and makes probabilities of them."""
        return (f"{name}_shipped",)

    def shipped(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The same."""
        logits = enlarged(values, size)
        exponents = np.exp(logits - logits.max(-1, keepdims=True))
        return exponents / exponents.sum(-1, keepdims=True)

    def compared(self, reference: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels, `(m, classes)`; of very many some, evenly spread."""
        left, right = (rows.reshape(-1, rows.shape[-1]) for rows in (reference, outputs))
        step = -(-len(left) // MOST_COMPARED)
        return left[::step], right[::step]

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> Score:
        """The mean IoU over classes that are there or were given."""
        counts = mask_scores.confusion(targets[..., 0], class_maps(outputs), outputs.shape[-1])
        whole = mask_scores.mean_iou(counts)
        return Score(whole.name, whole.key, whole.examples, [MeanOf(tuple(whole.columns))])

    def score_against(self, reference: np.ndarray, margin: float) -> Scorer:
        """The share of pixels that `reference` has so too, image by image."""
        best = class_maps(reference)
        second = np.sort(reference, -1)
        clear = second[..., -1] - second[..., -2] > margin

        def scored(values: np.ndarray) -> Score:
            same = (class_maps(values) == best) & clear
            counted = clear.sum((1, 2))
            with np.errstate(invalid="ignore"):
                return share(self.agreement, "accuracy", same.sum((1, 2)) / counted)

        return scored

    def clear(self, reference: np.ndarray, margin: float) -> np.ndarray:
        """Where the best two classes lie further apart."""
        return SINGLE_LABEL.clear(reference, margin)

    def same(self, reference: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Where the same class is the likeliest."""
        return SINGLE_LABEL.same(reference, outputs)

    def near_ties(self, reference: np.ndarray) -> int:
        """None that matter: a figure of pixels hardly moves by one of them."""
        return 0

    def logits(self, values: np.ndarray) -> np.ndarray:
        """The logarithms, each row around 0."""
        return SINGLE_LABEL.logits(values)


MASKS = Masks()


def class_maps(probabilities: np.ndarray) -> np.ndarray:
    """The likeliest class of each pixel, uint8 `(n, height, width)`."""
    return probabilities.argmax(-1).astype(np.uint8)


def enlarged(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`maps` `(n, h, w, classes)` at another size, as TensorFlow's bilinear resize has them."""
    rows, columns = (_weights(*sides) for sides in zip(size, maps.shape[1:3], strict=True))
    return np.einsum("Hh,nhwc,Ww->nHWc", rows, maps, columns, optimize=True)


def _weights(wanted: int, there: int) -> np.ndarray:
    """`(wanted, there)`: what each place is interpolated of, by the centres of pixels."""
    places = np.clip((np.arange(wanted) + 0.5) * there / wanted - 0.5, 0, there - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(there))).astype(np.float32)


def masks(
    labels: Sequence[str],
    *,
    name: str = "mask",
    decoder: Decoder | None = None,
    dice: float = 1.0,
    class_weights: Sequence[float] | None = None,
) -> Head:
    """A class for each pixel: logits `(batch, height / stride, width / stride, len(labels))` at the
    finest stride.

    Targets are uint8 `(batch, height, width, 1)`, 255 where a pixel does not count.

    Args:
        labels: two or more, the background among them.
        name: of the output.
        decoder: how levels become a map; None: as in U-Net.
        dice: what 1 - Dice (Milletari et al. 2016, arXiv:1606.04797) of an image counts beside the
            cross-entropy of its pixels, 0 or more.
        class_weights: what a pixel of each class counts in the cross-entropy; None: the same.

    Raises:
        ConfigError: fewer than two labels or too many, no such decoder, or a number out of range.
    """
    check_options(labels, 2)
    if len(labels) > MOST_CLASSES:
        raise ConfigError(f"a mask has {MOST_CLASSES} classes at most, not {len(labels)}")
    decoder = decoder or Decoder()
    decoder.check()
    if dice < 0:
        raise ConfigError(f"--dice counts 0 or more beside the cross-entropy, not {dice}")
    weights = None if class_weights is None else tuple(map(float, class_weights))

    def attach(*levels: "keras.KerasTensor") -> "keras.KerasTensor":
        import keras

        from graft.zoo.heads.masks import decoders

        join = decoders.DECODERS[decoder.joining]
        logits = join(levels, len(labels), decoder.channels, name)
        return keras.layers.Activation("linear", dtype="float32", name=name)(logits)

    def loss() -> "keras.Loss":
        from graft.zoo.heads.masks.mask_loss import MaskLoss

        return MaskLoss(dice, weights)

    return Head(name, MASKS, tuple(labels), attach, loss, list, None, decoder.strides)
