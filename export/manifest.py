"""manifest.json: what the exported files are, for people and for programs."""

import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from graft.zoo.errors import ArtifactError
from graft.zoo.files.guards import one_line_if_damaged
from graft.zoo.files.reading import check_schema, path_inside, read_json
from graft.zoo.files.writing import write_text
from graft.zoo.heads.kind import by_file_output
from graft.zoo.heads.table import find_kind
from graft.zoo.text import Tokenizer

__all__ = [
    "EXPORT_AGAIN",
    "MANIFEST_NAME",
    "MANIFEST_SCHEMA",
    "Description",
    "available_cores",
    "describe_machine",
    "package_versions",
    "read_manifest",
    "sha256",
    "size_bytes",
    "write_manifest",
]

MANIFEST_SCHEMA = 3
MANIFEST_NAME = "manifest.json"
EXPORT_AGAIN = "export again"
FILE_STATUSES = ("pass", "fail", "undecided", "skipped")
ROW_TYPES = {
    **dict.fromkeys(
        ("format", "requested", "precision", "sha256", "error", "skipped", "reason"), str
    ),
    **dict.fromkeys(("parity", "accuracy", "accuracy_of_outputs", "latency_ms"), dict),
    "size_bytes": int,
}
"""What a row of a file holds, where it does."""
HASHED_BLOCK_BYTES = 1024**2
FIGURES_UNTIL_SCHEMA_3 = {
    "single_label": "accuracy",
    "multi_label": "exact match",
    "tags": "token accuracy",
    "regression": "variance kept",
    "embedding": "variance kept",
}
"""What `value` was until schema 3."""
RECORDED_PACKAGES = (
    "graft-zoo",
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "onnxscript",
    "numpy",
)


@dataclass(frozen=True)
class Description:
    """What every file says of itself.

    Attributes:
        name: of the model.
        labels: what each output unit is called, in order; empty for an embedding.
        preprocessing: what happens to an example before the graph, so that another program can do
            the same.
        input_range: of the values of the first input, (0, 255) for images; None if it has none.
        tokenizer: what turns texts into ids; None for other models.
    """

    name: str
    labels: list[str]
    preprocessing: dict
    input_range: tuple[float, float] | None = None
    tokenizer: Tokenizer | None = None

    @property
    def length(self) -> int | None:
        """How many tokens a file takes whose inputs have fixed sizes."""
        return self.preprocessing.get("max_length")

    def labels_of(self, output: str) -> list[str]:
        """`labels` if they are those of this output: of several heads they are the first one's, and
        values have none.
        """
        facts = self.preprocessing.get("tasks", {}).get(output)
        if facts is None:
            return self.labels
        own = facts["labels"] == self.labels and find_kind(facts["kind"]).named
        return self.labels if own else []

    def labels_of_units(self, output: str) -> list[str]:
        """What the units of an output are called, values too."""
        return self.preprocessing.get("tasks", {}).get(output, {}).get("labels", self.labels)

    def vision_task_of(self, output: str) -> str:
        """What MediaPipe does with an output of a file; see `Kind.vision_task`."""
        tasks = self.preprocessing.get("tasks", {})
        kinds = by_file_output({name: find_kind(facts["kind"]) for name, facts in tasks.items()})
        return kinds[output].vision_task if output in kinds else ""

    @property
    def attached(self) -> dict[str, str]:
        """The text files that go with every exported file, in it where its format has room for
        them.
        """
        files = {
            "labels.txt": "".join(f"{label}\n" for label in self.labels),
            "preprocessing.json": json.dumps(self.preprocessing, ensure_ascii=False),
        }
        if self.tokenizer is not None:
            files["tokenizer.json"] = self.tokenizer.json
            if self.tokenizer.kind == "WordPiece":
                files["vocab.txt"] = "".join(f"{piece}\n" for piece in self.tokenizer.vocabulary)
        return files

    @property
    def producer(self) -> str:
        """Who wrote the file."""
        return f"graft-zoo {metadata.version('graft-zoo')}"


def write_manifest(folder: Path, content: Mapping) -> dict:
    """Write `folder`/manifest.json; returns what was written."""
    written = {"schema": MANIFEST_SCHEMA, **{key: _finite(value) for key, value in content.items()}}
    text = json.dumps(written, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / MANIFEST_NAME, text + "\n")
    return written


def _finite(value: object) -> object:
    """What is no number (a file that fails may answer so) becomes null: browsers read no NaN."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_manifest(folder: Path) -> dict:
    """The manifest of an export folder.

    Raises:
        ArtifactError: missing, damaged, or written by a newer Graft.
    """
    path = Path(folder) / MANIFEST_NAME
    if not path.is_file():
        raise ArtifactError(
            f"'{folder}' holds no {MANIFEST_NAME}: `graft export RUN` writes one beside the files"
        )
    content = read_json(path, dict, EXPORT_AGAIN)
    schema = check_schema(content, path, MANIFEST_SCHEMA, EXPORT_AGAIN)
    with one_line_if_damaged(path, EXPORT_AGAIN):
        content = content if schema >= 3 else _upgraded(content)
        _check_content(content, Path(folder))
        return content if "tasks" in content else {**content, "tasks": _older_tasks(content)}


def _check_content(content: Mapping, folder: Path) -> None:
    """Refuse rows of another form than those of an export, and files outside of `folder`."""
    rows = content["files"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TypeError("its 'files' are no list of objects")
    for row in rows:
        if row.get("path") is not None:
            path_inside(folder, row["path"], folder / MANIFEST_NAME)
        for name, kind in ROW_TYPES.items():
            if not isinstance(row.get(name), kind | None):
                raise TypeError(f"the '{name}' of a file is {type(row[name]).__name__}")
        if row.get("status") not in FILE_STATUSES:
            raise ValueError(f"the status of a file is {row.get('status')!r}")
        if not isinstance(row.get("format"), str):
            raise TypeError("a file has no format")
    for name, kind in (
        ("training_data", dict),
        ("measured_on", dict),
        ("outputs", list),
        ("preprocessing", dict),
    ):
        if not isinstance(content.get(name), kind | None):
            raise TypeError(f"its '{name}' is {type(content[name]).__name__}")


def _older_tasks(content: Mapping) -> dict[str, dict]:
    """What each output means, of a manifest that says it elsewhere."""
    described = content.get("preprocessing", {}).get("outputs", {})
    return {
        output["name"]: {
            "kind": output.get("kind", "single_label"),
            "labels": described.get(output["name"], {}).get("labels", content.get("labels", [])),
        }
        for output in content.get("outputs", ())
    }


def _upgraded(content: dict) -> dict:
    """An older manifest in today's form, with what was measured then under the names that it had.

    Until schema 3 a file passed that had lost more than it may where chance might explain it.
    """
    kinds = {
        output["name"]: output.get("kind", "single_label") for output in content.get("outputs", ())
    }
    for row in content.get("files", ()):
        accuracy = row.get("accuracy")
        undecided = bool(accuracy and accuracy.get("undecided"))
        row["status"] = (
            "skipped"
            if "skipped" in row
            else "undecided"
            if undecided
            else "pass"
            if row["passed"]
            else "fail"
        )
        parts = row.get("accuracy_of_outputs") or {}
        for output, figures in [*parts.items(), (next(iter(kinds), "probabilities"), accuracy)]:
            if figures is not None:
                kind = kinds.get(output, "single_label")
                figures.setdefault("figure", FIGURES_UNTIL_SCHEMA_3[kind])
                figures.setdefault("key", "accuracy")
                figures.setdefault("enough_examples", None)
                figures.setdefault("undecided", False)
                figures["status"] = (
                    "undecided" if figures["undecided"] else "pass" if figures["passed"] else "fail"
                )
        if accuracy is not None:
            accuracy.setdefault("output", next(iter(kinds), "probabilities"))
        if "parity" in row:
            row["parity"].setdefault("batch_1_diff", None)
    return content


def package_versions() -> dict[str, str]:
    """Package -> version, of what takes part in an export."""
    return {"python": platform.python_version()} | {
        package: metadata.version(package) for package in RECORDED_PACKAGES
    }


def describe_machine() -> str:
    """The machine that latencies are measured on, in words."""
    return f"{platform.system()} {platform.machine()}, {available_cores()} cores"


def available_cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sha256(path: Path) -> str:
    """Of a file; of a folder, over the names and contents of its files in order."""
    digest = hashlib.sha256()
    for file in _files_of(path):
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as content:
            while part := content.read(HASHED_BLOCK_BYTES):
                digest.update(part)
    return digest.hexdigest()


def size_bytes(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in _files_of(path))


def _files_of(path: Path) -> Sequence[Path]:
    return sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
