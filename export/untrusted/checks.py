"""What nobody vouches for is checked before it is opened: by its operators, by where its weights
are, by a trial in a process of its own.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from graft.export.manifest import EXPORT_AGAIN, MANIFEST_NAME, read_manifest, sha256
from graft.export.runtimes.savedmodel import load_text_operators
from graft.export.untrusted.operators import check_savedmodel
from graft.export.untrusted.trial import check_in_own_process
from graft.zoo.errors import ArtifactError
from graft.zoo.files.guards import one_line_if_damaged
from graft.zoo.quiet import load_tensorflow

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["check_external_data", "check_untrusted"]


def check_untrusted(path: Path, trust: bool = False) -> None:
    """Refuse what would do more than compute, or end the process that opens it.

    The operators of a SavedModel are looked at; a .tflite or .onnx file is tried in a process of
    its own. A file whose hash the manifest beside it holds is as it was exported, and is not looked
    at again.

    Args:
        path: any artifact.
        trust: look at nothing but the hash.

    Raises:
        ArtifactError: another file than the manifest describes; or refused.
    """
    if _is_in_manifest(path) or trust:
        return
    if (path / "saved_model.pb").is_file():
        load_tensorflow()
        load_text_operators(path)
        check_savedmodel(path)
    elif path.is_file() and path.suffix in (".tflite", ".onnx"):
        if path.suffix == ".onnx":
            check_external_data(path)
        check_in_own_process(path)


def _is_in_manifest(path: Path) -> bool:
    """Whether the manifest beside an exported file holds its hash.

    Raises:
        ArtifactError: it holds another one.
    """
    exported = (path / "saved_model.pb").is_file() or path.suffix in (".tflite", ".onnx")
    if not exported or not (path.parent / MANIFEST_NAME).is_file():
        return False
    rows = [
        row
        for row in read_manifest(path.parent)["files"]
        if row.get("path") == path.name and "sha256" in row
    ]
    if not rows:
        return False
    digest = sha256(path)
    if any(row["sha256"] != digest for row in rows):
        raise ArtifactError(
            f"'{path}' is not the file that was exported: its sha256 differs from the one in "
            "manifest.json; export again, or remove manifest.json if you changed the file on "
            "purpose"
        )
    return True


def check_external_data(path: Path) -> None:
    """Refuse a .onnx file whose weights are in other files: their bytes could be those of any file
    of the machine.

    Raises:
        ArtifactError: it names such a file; or it is damaged.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(b"location") < 0:  # without that word no tensor can be elsewhere
                return
    import onnx

    with one_line_if_damaged(path, EXPORT_AGAIN):
        model = onnx.load(path, load_external_data=False)
        outside = [
            tensor
            for tensor in _messages(model)
            if isinstance(tensor, onnx.TensorProto)
            and tensor.data_location == onnx.TensorProto.EXTERNAL
        ]
    if outside:
        named = next(
            (entry.value for entry in outside[0].external_data if entry.key == "location"), ""
        )
        raise ArtifactError(
            f"'{path}' keeps the weights '{outside[0].name}' in another file ('{named}'): refused, "
            "because weights must be in the file itself; save it with onnx.save_model(model, "
            "path), or --trust opens it all the same"
        )


def _messages(message: "Message") -> "Iterator[Message]":
    """A message and all that it holds: a tensor may be in a graph, a sparse tensor, an attribute, a
    branch, a function.
    """
    from google.protobuf.message import Message

    waiting = [message]
    while waiting:
        item = waiting.pop()
        yield item
        for field, value in item.ListFields():
            if field.message_type is not None:
                waiting += [value] if isinstance(value, Message) else value
