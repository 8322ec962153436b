"""backbone + heads -> one functional Keras model: raw input -> preprocessing -> backbone ->
head(s).
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.graph.cuts import flatten, nodes_of
from graft.zoo.heads.heads import Head, Tasks

if TYPE_CHECKING:
    import keras

__all__ = ["FEATURES", "backbone_of", "stack"]

FEATURES = "features"
"""The name of the layer that pools the backbone's output; what lies before it is the backbone."""

MASK = "padding_mask"
"""The name of the input that says which positions count, 1 or 0."""


def stack(backbone: "keras.Model", heads: "Sequence[Head] | Tasks") -> "keras.Model":
    """Put `heads` on `backbone`.

    `backbone` is any functional model with one output: a feature map `(batch, h, w, c)` or `(batch,
    steps, c)`, which is averaged over its positions (over those that the input `padding_mask`
    leaves, if there is one), or features `(batch, c)`, which are used as they are. Heads for tags
    see the positions themselves. Nested models are flattened; the weights are shared with
    `backbone`, not copied.

    Returns a flat functional model. One head: its output tensor. Several heads: a dict, head name
    -> tensor.

    Raises:
        ConfigError: no head, two heads of one name or with one of a layer, several backbone
            outputs, or an output of another rank.
    """
    import keras

    tasks, heads = (heads, heads.heads) if isinstance(heads, Tasks) else (None, heads)
    names = [head.name for head in heads]
    if not heads or len(set(names)) != len(names):
        raise ConfigError(f"a model needs one or more heads with different names, got {names}")
    backbone = flatten(backbone)
    if len(backbone.outputs) != 1:
        raise ConfigError(
            f"a backbone has one output, '{backbone.name}' has {len(backbone.outputs)}"
        )
    (features,) = backbone.outputs
    pooling = {2: "Flatten", 3: "GlobalAveragePooling1D", 4: "GlobalAveragePooling2D"}.get(
        len(features.shape)
    )
    if pooling is None:
        raise ConfigError(
            f"the output of backbone '{backbone.name}' has shape {features.shape}; expected "
            "(batch, features), "
            "(batch, steps, features) or (batch, height, width, features)"
        )
    mask = next((t for t in backbone.inputs if t.name == MASK), None)
    if all(head.kind == "tags" for head in heads):
        pooled = features = keras.layers.Activation("linear", name=FEATURES)(features)
    elif mask is not None:
        pooled = keras.layers.GlobalAveragePooling1D(name=FEATURES)(features, mask=mask)
    else:
        pooled = getattr(keras.layers, pooling)(name=FEATURES)(features)
    outputs = {
        head.name: head.attach(features if head.kind == "tags" else pooled) for head in heads
    }
    if tasks is not None:
        outputs = tasks.finish(outputs)
    made = {id(node.operation): node.operation.name for node in nodes_of(list(outputs.values()))}
    counts = Counter([*made.values(), *(tensor.name for tensor in backbone.inputs)])
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise ConfigError(
            f"with heads called {', '.join(names)} the model would have two layers '{twice}': "
            "rename the head or task"
        )
    return keras.Model(
        backbone._inputs_struct,
        outputs[names[0]] if len(heads) == 1 else outputs,
        name=backbone.name,
    )


def backbone_of(model: "keras.Model") -> "keras.Model":
    """The backbone inside a model that `stack` made, also after it was saved and loaded. Shares its
    weights.

    Raises:
        ArtifactError: `model` has no layer called `features`, so `stack` did not make it.
    """
    import keras

    try:
        features = model.get_layer(FEATURES).input
        features = (
            features[0] if isinstance(features, list) else features
        )  # the other one is a padding mask
    except ValueError as error:
        raise ArtifactError(
            f"the model '{model.name}' was not made by Graft: it has no layer called '{FEATURES}' "
            "between its backbone "
            "and its heads"
        ) from error
    return keras.Model(model._inputs_struct, features, name=model.name)
