"""A row of the manifest for each file: read from the disk, run by its own runtime, judged,
timed.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from graft.export import contents, manifest, probe
from graft.export.convert.savedmodel import RAW_TEXT
from graft.export.convert.text_graph import can_tokenize, tokenizer_graph
from graft.export.judge import BATCH, Judge
from graft.export.manifest import Description
from graft.export.runtimes.savedmodel import open_raw_text
from graft.export.sessions import open_artifact
from graft.zoo.errors import ArtifactError
from graft.zoo.graph.stack import MASK
from graft.zoo.heads.kind import Kind, by_file_output

__all__ = ["against_float32", "blank_row", "measured_row"]


def blank_row(name: str, precision: str) -> dict:
    """The row of a file that is not written yet."""
    return {
        "format": name,
        "precision": precision,
        "requested": precision,
        "path": None,
        "status": "fail",
        "passed": False,
        "reason": None,
    }


def measured_row(
    row: Mapping, target: Path, judge: Judge, description: Description, seconds: float
) -> dict:
    """`row` with all that is known of the file `target`, read and run from the disk."""
    row = {**row, "path": target.name}
    row |= {
        "size_bytes": manifest.size_bytes(target),
        "sha256": manifest.sha256(target),
        "seconds": round(seconds, 2),
    }
    try:
        session = open_artifact(target, trust=True)  # we wrote it
        outputs = judge.outputs(session.run)
        parity = judge.parity(outputs, row["precision"])
        if row["format"] != "tflite":  # which runs no other batches
            alone = judge.alone(session.run, row["precision"])
            parity = replace(
                parity, batch_1_diff=alone.max_abs_diff, passed=parity.passed and alone.passed
            )
        worst, of_outputs = judge.accuracy(outputs)
        accuracy = of_outputs[worst]
        row |= {"parity": parity.as_dict(), "accuracy": {"output": worst, **accuracy.as_dict()}}
        if len(judge.reference) > 1:
            row["accuracy_of_outputs"] = {
                name: figures.as_dict() for name, figures in of_outputs.items()
            }
        row |= {
            **_with_ranges(contents.describe_file(target), description, judge.kinds),
            **probe.measure_file(target),
        }
        if row["format"] == "savedmodel" and can_tokenize(description.tokenizer) and judge.texts:
            row |= _raw_text(target, judge, description)
    except ArtifactError as error:
        return row | {"error": str(error)}
    status = accuracy.status if parity.passed else "fail"
    return row | {"status": status, "passed": status == "pass"}


def against_float32(row: Mapping, whole: Mapping) -> dict:
    """How large and how slow a file is beside the float32 file of its format: `{"against_float32":
    {"size", "latency"}}`.
    """
    if "latency_ms" not in row or "latency_ms" not in whole:
        return {}
    own, other = (each["latency_ms"]["one_thread"]["median"] for each in (row, whole))
    ratios = {
        "size": row["size_bytes"] / whole["size_bytes"],
        "latency": own / other if other else None,
    }
    return {"against_float32": {key: value and round(value, 3) for key, value in ratios.items()}}


def _raw_text(target: Path, judge: Judge, description: Description) -> dict:
    """What the signature that takes strings gives for the examples, beside tokenizer.json."""
    tokenize = tokenizer_graph(description.tokenizer, description.length)
    mask = judge.inputs[MASK]
    wanted = [
        row[:count] for row, count in zip(judge.inputs["token_ids"], mask.sum(-1), strict=True)
    ]
    same = 0
    for start in range(0, len(wanted), BATCH):
        given = tokenize(np.array([text.encode() for text in judge.texts[start : start + BATCH]]))
        lengths = np.asarray(given["padding_mask"]).sum(-1)
        rows = zip(
            np.asarray(given["token_ids"]), lengths, wanted[start : start + BATCH], strict=True
        )
        same += sum(np.array_equal(row[:length], want) for row, length, want in rows)
    runs = open_raw_text(target)(judge.texts[:BATCH])
    return {
        "raw_text": {
            "signature": RAW_TEXT,
            "examples": len(wanted),
            "same_ids": same,
            "outputs": list(runs),
        },
        "needs": ["tensorflow-text"],
    }


def _with_ranges(described: dict, description: Description, kinds: Mapping[str, Kind]) -> dict:
    described["inputs"][0]["range"] = (
        list(description.input_range) if description.input_range else None
    )
    of_files = by_file_output(kinds)
    for output in described["outputs"]:
        output["range"] = [0, 1] if of_files[output["name"]].bounded else None
    return described
