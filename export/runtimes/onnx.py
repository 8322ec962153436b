"""A .onnx file, opened by onnxruntime on the CPU. Imports neither TensorFlow nor Keras."""

from pathlib import Path

import numpy as np

from graft.export.manifest import EXPORT_AGAIN
from graft.export.runtimes.runtime import Arrays, Runtime, named_errors, one_by_one, one_line
from graft.zoo.errors import ArtifactError
from graft.zoo.files.reading import parse_json

__all__ = ["open_onnx"]

ONLY_ERRORS = 3
"""What onnxruntime calls the level of its log."""


def open_onnx(path: Path, threads: int = 1) -> Runtime:
    """Open a .onnx file with onnxruntime on the CPU; `threads` 0 takes all.

    Raises:
        ArtifactError: damaged.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = ONLY_ERRORS
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        properties = session.get_modelmeta().custom_metadata_map
        input_shapes, output_shapes = (
            {
                entry.name: tuple(d if isinstance(d, int) else None for d in entry.shape[1:])
                for entry in side
            }
            for side in (session.get_inputs(), session.get_outputs())
        )
        names = [output.name for output in session.get_outputs()]
        integers = any("int32" in entry.type for entry in session.get_inputs())
    except Exception as error:  # onnxruntime's error classes share no public parent
        raise ArtifactError(
            f"'{path}' is damaged, cut short or no ONNX file: {one_line(error)}; {EXPORT_AGAIN}"
        ) from error

    def run(given: Arrays) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(None, dict(given)), strict=True))

    if session.get_inputs()[0].shape[:1] == [1]:
        run = one_by_one(run)
    attached = {
        f"{key}.json": properties[key]
        for key in ("preprocessing", "tokenizer")
        if key in properties
    }
    if "labels" in properties:
        labels = parse_json(properties["labels"], f"{path}: labels", list, EXPORT_AGAIN)
        if not all(isinstance(label, str) for label in labels):
            raise ArtifactError(
                f"the labels of '{path}' are damaged: expected a list of names; {EXPORT_AGAIN}"
            )
        attached["labels.txt"] = "\n".join(labels)
    return Runtime(input_shapes, output_shapes, attached, integers, named_errors(run, path))
