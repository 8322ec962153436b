"""TFLite metadata: what MediaPipe Tasks, Android Studio and other tools read to know what a file
takes and gives.

The metadata are a flatbuffer of their own inside the model, of the schema that TensorFlow Lite
publishes as `metadata_schema.fbs` (file identifier M001); associated files such as the labels are a
zip archive at the file's end. Written field by field with `flatbuffers`, because the only package
that carries the generated classes is MediaPipe, whose 150 MB no user of Graft needs; a test
compares with those classes.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence

import flatbuffers
import numpy as np

from graft.export.manifest import Description

__all__ = ["add_metadata"]

LABELS_FILE, VOCABULARY_FILE = "labels.txt", "vocab.txt"
# Numbers of the schema: what an input's colours and an associated file are, and which properties a
# table holds.
COLOURS = {1: np.int8(2), 3: np.int8(1)}
"""Channels of an image -> greyscale, RGB. Of four the schema has no name."""
UNKNOWN_COLOURS = np.int8(0)
LABELS_OF_AN_AXIS, LABELS_OF_VALUES, VOCABULARY = 2, 3, 5
FEATURE_PROPERTIES, IMAGE_PROPERTIES, BOUNDING_BOX_PROPERTIES = 1, 2, 3
LOCATION, CATEGORY = "location", "category"
BOUNDARIES, CORNERS = np.int8(1), (1, 0, 3, 2)
"""Boxes are written as ymin, xmin, ymax, xmax, read as left, top, right, bottom."""
NORMALIZATION_OPTIONS, BERT_TOKENIZER_OPTIONS = 1, 4
BERT_INPUTS = {"token_ids": "ids", "padding_mask": "mask", "segment_ids": "segment_ids"}
"""What MediaPipe calls the inputs of a BERT; those of other models keep their own names."""


def add_metadata(content: bytes, description: Description) -> bytes:
    """`content`, a .tflite model, with metadata and associated files (`labels.txt`,
    `preprocessing.json`, a tokenizer's).

    An input with a range is an image: its colours (RGB, greyscale, or of four channels unknown),
    and a normalization with mean 0 and deviation 1, because scaling is inside the graph and
    MediaPipe refuses a float image model that says nothing of it. MediaPipe takes RGB alone: a
    model of one or four channels it refuses with a message, whatever is said of it.
    Weights end up inside the flatbuffer, whatever wrote it: some tools put them behind it, where
    older runtimes do not look. A tokenizer of BERT's kind is described as MediaPipe's
    TextClassifier reads it.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for buffer in model.buffers:
        if buffer.data is not None:
            # Packed at once, not byte by byte.
            buffer.data = np.frombuffer(bytes(buffer.data), np.uint8)
    graph = model.subgraphs[0]
    names = {
        i.tensorIndex: i.name.decode() for d in model.signatureDefs for i in (*d.inputs, *d.outputs)
    }
    builder = flatbuffers.Builder(1024)
    attached = description.attached
    of_bert = VOCABULARY_FILE in attached and set(BERT_INPUTS) == {names[i] for i in graph.inputs}
    named = {i: BERT_INPUTS[names[i]] if of_bert else names[i] for i in graph.inputs}
    channels = {i: int(graph.tensors[i].shape[-1]) for i in graph.inputs}
    value_range = description.input_range
    inputs = [_input(builder, named[i], value_range, channels[i]) for i in graph.inputs]
    tasks = [description.vision_task_of(names[i]) for i in graph.outputs]
    outputs = [
        _detected(builder, names[i])
        if task == "detector"
        else _output(builder, names[i], description.labels_of(names[i]))
        for i, task in zip(graph.outputs, tasks, strict=True)
    ]
    subgraph = {2: _list(builder, inputs), 3: _list(builder, outputs)}
    if of_bert:
        subgraph[5] = _list(builder, [_bert_tokenizer(builder)])
    if "segmenter" in tasks:
        subgraph[9] = _list(builder, [_segmenter(builder)])
    parts = _table(builder, subgraph)
    root = {
        0: _text(builder, description.name),
        1: _text(builder, f"Written by {description.producer}"),
        3: _list(builder, [parts]),
        7: _text(builder, "1.0.0"),
    }
    builder.Finish(_table(builder, root), b"M001")

    model.buffers.append(schema.BufferT(data=np.frombuffer(bytes(builder.Output()), np.uint8)))
    entry = schema.MetadataT(name=b"TFLITE_METADATA", buffer=len(model.buffers) - 1)
    model.metadata = [m for m in model.metadata or () if m.name != entry.name] + [entry]
    target = io.BytesIO()
    target.write(flatbuffer_utils.convert_object_to_bytearray(model))
    with zipfile.ZipFile(target, "a") as archive:
        for name, text in attached.items():
            # Without the time: the same model gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name), text)
    return target.getvalue()


def _input(
    builder: flatbuffers.Builder,
    name: str,
    value_range: tuple[float, float] | None,
    channels: int,
) -> int:
    if value_range is None:
        return _table(builder, {0: _text(builder, name), 3: _features(builder)})
    image = _table(builder, {0: COLOURS.get(channels, UNKNOWN_COLOURS)})
    unit = _table(builder, {0: _floats(builder, [0.0]), 1: _floats(builder, [1.0])})
    units = _list(builder, [_table(builder, {0: np.uint8(NORMALIZATION_OPTIONS), 1: unit})])
    low, high = value_range
    stats = _table(builder, {0: _floats(builder, [high]), 1: _floats(builder, [low])})
    content = _table(builder, {0: np.uint8(IMAGE_PROPERTIES), 1: image})
    return _table(builder, {0: _text(builder, name), 3: content, 4: units, 5: stats})


def _output(builder: flatbuffers.Builder, name: str, labels: Sequence[str]) -> int:
    fields = {0: _text(builder, name), 3: _features(builder)}
    if labels:
        fields[5] = _table(builder, {0: _floats(builder, [1.0]), 1: _floats(builder, [0.0])})
        fields[6] = _list(
            builder, [_file(builder, LABELS_FILE, "Labels, one a line", LABELS_OF_AN_AXIS)]
        )
    return _table(builder, fields)


def _detected(builder: flatbuffers.Builder, name: str) -> int:
    """One of the four outputs of a detector. MediaPipe knows them by names with blanks, which
    TensorFlow's cannot have.
    """
    name = name.replace("_", " ")
    if name == LOCATION:
        order = builder.CreateNumpyVector(np.array(CORNERS, np.uint32))
        box = _table(builder, {0: order, 1: BOUNDARIES})
        content = _table(builder, {0: np.uint8(BOUNDING_BOX_PROPERTIES), 1: box})
        return _table(builder, {0: _text(builder, name), 3: content})
    fields = {0: _text(builder, name), 3: _features(builder)}
    if name == CATEGORY:
        file = _file(builder, LABELS_FILE, "Labels, one a line", LABELS_OF_VALUES)
        fields[6] = _list(builder, [file])
    return _table(builder, fields)


def _segmenter(builder: flatbuffers.Builder) -> int:
    """Says that probabilities come out: without it MediaPipe takes them for logits."""
    options = flatbuffers.Builder(64)
    version = options.CreateString("1.0.0")
    # Of the activation 0, none, nothing is written.
    options.Finish(_table(options, {1: version}), b"V001")
    data = builder.CreateByteVector(bytes(options.Output()))
    return _table(builder, {0: _text(builder, "SEGMENTER_METADATA"), 1: data})


def _bert_tokenizer(builder: flatbuffers.Builder) -> int:
    file = _file(
        builder, VOCABULARY_FILE, "Word pieces, one a line, in the order of their ids", VOCABULARY
    )
    options = _table(builder, {0: _list(builder, [file])})
    return _table(builder, {0: np.uint8(BERT_TOKENIZER_OPTIONS), 1: options})


def _file(builder: flatbuffers.Builder, name: str, description: str, kind: int) -> int:
    return _table(
        builder, {0: _text(builder, name), 1: _text(builder, description), 2: np.int8(kind)}
    )


def _features(builder: flatbuffers.Builder) -> int:
    return _table(builder, {0: np.uint8(FEATURE_PROPERTIES), 1: _table(builder, {})})


def _table(builder: flatbuffers.Builder, fields: Mapping[int, "int | np.int8 | np.uint8"]) -> int:
    """A table with `fields` by slot: offsets of what was written before are ints, numbers have
    numpy's type.
    """
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, value in fields.items():
        if isinstance(value, np.int8):
            builder.PrependInt8Slot(slot, int(value), 0)
        elif isinstance(value, np.uint8):
            builder.PrependUint8Slot(slot, int(value), 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()


def _text(builder: flatbuffers.Builder, text: str) -> int:
    return builder.CreateString(text)


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> int:
    return builder.CreateNumpyVector(np.asarray(values, np.float32))


def _list(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
