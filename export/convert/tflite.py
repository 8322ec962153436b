"""Keras -> TFLite (LiteRT): one file for phones, micro-computers and browsers."""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from graft.export.convert.savedmodel import save_as_savedmodel
from graft.export.convert.tflite_metadata import add_metadata
from graft.export.manifest import Description
from graft.zoo.errors import ExportError
from graft.zoo.files.staging import staged_file

if TYPE_CHECKING:
    import keras

__all__ = ["convert_to_tflite", "write_tflite"]


def write_tflite(content: bytes, target: Path, description: Description) -> None:
    """Write `content`, a TFLite flatbuffer, as the file `target`, with metadata and associated
    files.
    """
    with staged_file(target) as path:
        path.write_bytes(add_metadata(content, description))


def convert_to_tflite(model: "keras.Model", length: int | None = None) -> bytes:
    """`model` as a float32 TFLite flatbuffer: batch 1, built-in operators only, signature
    `serving_default` with names.

    Texts have a fixed `length`, because MediaPipe's tasks and most delegates know no other.

    Raises:
        ExportError: the model needs operators that TFLite does not have built in (Flex or custom
            ones); it names them.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        # From a SavedModel, because a concrete function of a Keras 3 model converts to a file
        # without the weights.
        save_as_savedmodel(model, Path(folder), batch=1, length=length)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            return converter.convert()
        except Exception as error:  # the converter's own error classes are not public
            operators = sorted(set(re.findall(r"tf\.(\w+)", str(error))) - {"lite"})
            if not operators:
                raise ExportError(f"TFLite's converter failed: {str(error)[:300]}") from error
            raise ExportError(
                f"TFLite has no built-in operator for {', '.join(operators)}: the file would need "
                "the Flex delegate, which most devices lack; use another backbone, or export to "
                "SavedModel or ONNX"
            ) from error
