"""Keras -> SavedModel: a folder that TensorFlow Serving and TensorFlow in any language open."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graft.export.convert.graph import as_float32, named_inputs, output_tensors, trace_model
from graft.export.convert.text_graph import TokenizerGraph, can_tokenize, tokenizer_graph
from graft.export.manifest import Description
from graft.zoo.files.staging import staged_folder

if TYPE_CHECKING:
    import keras

__all__ = ["RAW_TEXT", "save_as_savedmodel", "write_savedmodel"]

RAW_TEXT = "raw_text"
"""The signature that takes strings."""


def write_savedmodel(model: "keras.Model", target: Path, description: Description) -> None:
    """Write the folder `target`: signature `serving_default`, inputs and outputs by name, dynamic
    batch and length.

    The labels go in as the asset `labels.txt`, what happens before the graph as
    `preprocessing.json`, a tokenizer as `tokenizer.json` and `vocab.txt`. With a tokenizer of
    BERT's kind there is a second signature, `raw_text`, which takes strings `(batch,)`; whoever
    loads the folder needs the operators of tensorflow-text then.
    """
    with staged_folder(target, overwrite=True) as folder, tempfile.TemporaryDirectory() as scratch:
        for name, text in description.attached.items():
            (Path(scratch) / name).write_text(text, encoding="utf-8")
        assets = [Path(scratch) / name for name in description.attached]
        tokenizer, tokenize = description.tokenizer, None
        if tokenizer is not None and can_tokenize(tokenizer):
            tokenize = tokenizer_graph(tokenizer, description.preprocessing["max_length"])
        save_as_savedmodel(model, folder, assets=assets, tokenize=tokenize)


def save_as_savedmodel(
    model: "keras.Model",
    folder: Path,
    *,
    batch: int | None = None,
    length: int | None = None,
    assets: Sequence[Path] = (),
    tokenize: TokenizerGraph | None = None,
) -> None:
    """Save into the existing `folder`.

    Each variable is stored once: the module holds the bare variables, because a Keras model inside
    it would be stored a second time, and the TFLite converter would lose the weights.

    Args:
        model: may compute in half precision; the file computes in float32.
        folder: empty.
        batch: its size; None leaves it dynamic.
        length: of the other dimensions without a size; None leaves them dynamic.
        assets: files that go in beside the graph.
        tokenize: what the signature `raw_text` makes ids with; None: there is no such signature.
    """
    import tensorflow as tf

    model = as_float32(model)
    module = tf.Module()
    module.variables_of_the_model = [variable.value for variable in model.variables]
    module.assets = [tf.saved_model.Asset(str(asset)) for asset in assets]
    signatures = {"serving_default": trace_model(model, batch, length)}
    if tokenize is not None:
        module.vocabulary = tokenize.tables

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="text")])
        def raw_text(text: "tf.Tensor") -> "dict[str, tf.Tensor]":
            outputs = model(named_inputs(model, tokenize(text)), training=False)
            return {
                name: tf.identity(t, name=name)
                for name, t in output_tensors(model, outputs).items()
            }

        signatures[RAW_TEXT] = raw_text.get_concrete_function()
    tf.saved_model.save(module, str(folder), signatures=signatures)
