"""Training few numbers of many: biases alone, and low-rank additions (LoRA), which Keras's own
layers carry.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from graft.zoo.errors import ConfigError
from graft.zoo.graph.blocks import Block
from graft.zoo.graph.state import refresh_derived_state

if TYPE_CHECKING:
    import keras

__all__ = [
    "LORA_RANK",
    "add_lora",
    "freeze_all_but",
    "lora_layers",
    "merged_weights",
    "reset_adapters",
]

LORA_RANK = 8
"""Of the additions."""

LORA_TARGETS = ("query", "value")
"""The projections of attention that get one (Hu et al. 2021, section 7.1); KerasHub's names of them
begin so.
"""


def add_lora(model: "keras.Model", rank: int = LORA_RANK) -> None:
    """Give every projection to queries and values in `model` a low-rank addition, zero at first.

    Raises:
        ConfigError: the model has no attention.
    """
    chosen = [
        layer
        for layer in model._flatten_layers(recursive=True)
        if hasattr(layer, "enable_lora") and layer.name.lstrip("_").startswith(LORA_TARGETS)
    ]
    if not chosen:
        raise ConfigError(
            f"'{model.name}' has no attention to add low-rank matrices to: choose another schedule"
        )
    for layer in chosen:
        if not layer.lora_enabled:
            layer.enable_lora(rank)


def lora_layers(model: "keras.Model") -> list["keras.layers.Layer"]:
    """The layers of `model` that carry an addition."""
    return [
        layer
        for layer in model._flatten_layers(recursive=True)
        if getattr(layer, "lora_enabled", False)
    ]


def freeze_all_but(blocks: Sequence[Block], adapt: Literal["weights", "bias", "lora"]) -> None:
    """Of what trains in `blocks`, freeze all but the vectors ("bias") or the additions ("lora").
    Call `freeze` before.
    """
    if adapt == "weights":
        return
    for block in blocks:
        for variable in block.weights:
            # The biases of KerasHub's projections are matrices (heads, width of a head).
            vector = variable.name == "bias" or len(variable.shape) == 1
            if not (vector if adapt == "bias" else "lora" in variable.name):
                variable.trainable = False


def merged_weights(model: "keras.Model") -> list[np.ndarray]:
    """The weights of `model` as those of the same model without additions: these are added to what
    they belong to.
    """
    kernels = {id(layer._kernel): layer for layer in lora_layers(model)}
    merged = []
    for variable in model.weights:
        if "lora" in variable.name:
            continue
        layer = kernels.get(id(variable))
        merged.append(np.asarray(variable if layer is None else layer.kernel))
    return merged


def reset_adapters(model: "keras.Model", weights: Sequence[np.ndarray]) -> None:
    """Set a model to weights of the same model without additions, and the additions anew.

    Args:
        model: with additions.
        weights: in the order of `merged_weights`.
    """
    import keras

    own = [variable for variable in model.weights if "lora" not in variable.name]
    for variable, value in zip(own, weights, strict=True):
        variable.assign(value)
    refresh_derived_state(model)
    for layer in lora_layers(model):
        layer.lora_kernel_a.assign(keras.initializers.HeUniform()(layer.lora_kernel_a.shape))
        layer.lora_kernel_b.assign(np.zeros(layer.lora_kernel_b.shape, np.float32))
