"""backbone + heads -> one functional Keras model: raw input -> preprocessing -> backbone ->
head(s).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.graph.levels import level_tensors
from graft.zoo.graph.nodes import flatten, nodes_of
from graft.zoo.heads.head import Head, Heads, Level

if TYPE_CHECKING:
    import keras

__all__ = ["FEATURES", "LEVELS", "MASK", "backbone_of", "stack"]

FEATURES = "features"
"""The name of the layer that pools the backbone's output; what lies before it is the backbone."""
LEVELS = "levels"
"""The name of the layer through which all levels go where heads read feature maps; it changes
nothing, and what lies before it is the backbone.
"""
MASK = "padding_mask"
"""The name of the input that says which positions count, 1 or 0."""
POOLING = {2: "Flatten", 3: "GlobalAveragePooling1D", 4: "GlobalAveragePooling2D"}
"""Rank of a backbone's output -> the layer that pools it."""


def stack(backbone: "keras.Model", heads: Heads | Head | Sequence[Head]) -> "keras.Model":
    """Put `heads` on `backbone`.

    Args:
        backbone: any functional model with one output: a feature map `(batch, h, w, c)` or `(batch,
            steps, c)`, which is averaged over its positions (over those that the input
            `padding_mask` leaves, if there is one), or features `(batch, c)`, which are used as
            they are. Nested models are flattened; the weights are shared with it, not copied.
        heads: one or several. Each is handed the levels that it reads.

    Returns:
        A flat functional model. One head: its output tensor. Several heads: a dict, head name ->
        tensor.

    Raises:
        ConfigError: no head, two heads of one name or with one of a layer, several backbone
            outputs, an output of another rank, or a level that the backbone does not have.
    """
    import keras

    group = Heads.of(heads)
    names = [head.name for head in group.heads]
    backbone = flatten(backbone)
    if len(backbone.outputs) != 1:
        raise ConfigError(
            f"a backbone has one output, '{backbone.name}' has {len(backbone.outputs)}"
        )
    levels = _levels(backbone, group)
    attached = [head.attach(*(levels[level] for level in head.reads)) for head in group.heads]
    outputs = group.finish(dict(zip(names, attached, strict=True)))
    made = {id(node.operation): node.operation.name for node in nodes_of(list(outputs.values()))}
    counts = Counter([*made.values(), *(tensor.name for tensor in backbone.inputs)])
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise ConfigError(
            f"with heads called {', '.join(names)} the model would have two layers '{twice}': "
            "rename "
            "the head or task"
        )
    return keras.Model(
        backbone._inputs_struct,
        outputs[names[0]] if len(names) == 1 else outputs,
        name=backbone.name,
    )


def _levels(backbone: "keras.Model", group: Heads) -> "Mapping[Level, keras.KerasTensor]":
    """What the heads of `group` read, by level."""
    import keras

    (output,) = backbone.outputs
    rank = len(output.shape)
    if rank not in POOLING:
        raise ConfigError(
            f"the output of backbone '{backbone.name}' has shape {output.shape}; expected (batch, "
            "features), (batch, steps, features) or (batch, height, width, features)"
        )
    wanted = list(dict.fromkeys(level for head in group.heads for level in head.reads))
    found = level_tensors(backbone, wanted)
    if any(isinstance(level, int) for level in wanted):
        # The last feature map may be the output too: each tensor passes once.
        tensors = {id(tensor): tensor for tensor in found.values()}
        levels = keras.layers.Identity(name=LEVELS)([*tensors.values()])
        passed = dict(zip(tensors, levels, strict=True))
        found = {level: passed[id(tensor)] for level, tensor in found.items()}
    elif "pooled" not in wanted:
        return {"positions": keras.layers.Activation("linear", name=FEATURES)(output)}
    if "pooled" in found:
        mask = next((t for t in backbone.inputs if t.name == MASK), None)
        pool = getattr(keras.layers, POOLING[rank])(name=FEATURES)
        found["pooled"] = (
            pool(found["pooled"]) if mask is None else pool(found["pooled"], mask=mask)
        )
    return found


def backbone_of(model: "keras.Model") -> "keras.Model":
    """The backbone inside a model that `stack` made, also after it was saved and loaded. Shares its
    weights. Where heads read feature maps it has an output for each level that they read.

    Raises:
        ArtifactError: `model` has no layer called `features`, so `stack` did not make it.
    """
    import keras

    names = {layer.name for layer in model.layers}
    if LEVELS in names:
        return keras.Model(model._inputs_struct, model.get_layer(LEVELS).input, name=model.name)
    if FEATURES not in names:
        raise ArtifactError(
            f"the model '{model.name}' was not made by Graft: it has no layer called '{FEATURES}' "
            "between its backbone and its heads"
        )
    features = model.get_layer(FEATURES).input
    # The other one is a padding mask.
    features = features[0] if isinstance(features, list) else features
    return keras.Model(model._inputs_struct, features, name=model.name)
