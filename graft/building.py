"""Backbones and stacked models, as Keras models."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graft.zoo.errors import ConfigError

if TYPE_CHECKING:
    import keras

    from graft.zoo.fits import ImageSize
    from graft.zoo.heads.head import Head, Heads

__all__ = ["backbone", "stack"]


def backbone(
    name: str, *, weights: str | None = None, image_size: "ImageSize | None" = None
) -> "keras.Model":
    """A pretrained backbone without its head.

    Args:
        name: from `graft.zoo()`, or a .keras file; for texts also a folder of a KerasHub preset or
            of a Hugging Face model.
        weights: "imagenet", "bundled", "none", a path, of texts "preset" or "folder". Default: the
            backbone's own.
        image_size: pixels a side, or (height, width). Default: the backbone's.

    Returns:
        A functional model from raw pixels (0 to 255) or token ids to features.

    Raises:
        UnknownName: there is no such backbone; names the nearest.
        ConfigError, WeightsError: weights that it does not have, or that cannot be had.
    """
    from graft.recipes.runs import backbones
    from graft.zoo.quiet import load_tensorflow

    if not isinstance(name, str):
        raise ConfigError(
            f"a backbone is asked for by its name, as graft.backbone('mobilenet_v2'): got {name!r}"
        )
    found = backbones.found(name, weights, backbones.Reading(image_size))
    load_tensorflow()
    return found.build()


def stack(backbone: "keras.Model | str", heads: "Heads | Head | Sequence[Head]") -> "keras.Model":
    """Put heads on a backbone.

    Args:
        backbone: a functional model with one output, or the name of one of `graft.zoo()`.
        heads: of `graft.heads`, as `graft.heads.single_label(labels)`; one, or several with names
            of their own.

    Returns:
        A flat functional model, whose weights are shared with the backbone. One head: its output
        tensor. Several: a dict, head name -> tensor.

    Raises:
        ConfigError: no head, two of one name, or a backbone that cannot carry them.
        UnknownName: no backbone is called so.
    """
    from graft.zoo.graph.stack import stack as stacked
    from graft.zoo.heads.head import Heads
    from graft.zoo.quiet import load_tensorflow

    group = Heads.of(heads)
    base = globals()["backbone"](backbone) if isinstance(backbone, str) else backbone
    load_tensorflow()
    import keras

    if not isinstance(base, keras.Model):
        raise ConfigError(
            "graft.stack takes a Keras model or the name of a backbone, and a head: got "
            f"{type(base).__name__}"
        )
    return stacked(base, group)
