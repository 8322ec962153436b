"""The sentences that the export of a run for text needs; as `recipes/runs/export_data.py` for
pictures.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from graft.export.export import Examples
from graft.recipes.data import membership, sentences, splits
from graft.recipes.runs import text_session
from graft.recipes.codecs import texts
from graft.recipes.runs.export_data import MOST_MEASURED, stated
from graft.recipes.tasks.head_evaluation import tag_sequences
from graft.zoo.terminal import warn
from graft.recipes.codecs.texts import Texts, padded, padded_targets
from graft.zoo.errors import ConfigError, DataError, UnknownName
from graft.zoo.files.reading import read_arrays
from graft.zoo.heads.heads import Head
from graft.zoo.heads.scores import Score, entity_f1
from graft.zoo.text import Tokenizer

__all__ = ["from_run"]


def from_run(
    folder: Path, content: Mapping, data: str | None, preprocessing: Mapping, tokenizer: Tokenizer
) -> tuple[Examples, Examples]:
    """(for measuring, for calibration) of the run in `folder`, whose run.json holds `content`.

    Measured is on the validation split of `data`, by default the source that the run was trained
    on; where that has gone, on the sentences that the run kept, with a warning.

    Raises:
        DataError, UnknownName: `data` was given and cannot be used.
        ArtifactError: what the run keeps cannot be read.
    """
    config, facts = content["config"], content["data"]
    kept = read_arrays(Path(folder) / "examples.npz")
    length, inputs = preprocessing["max_length"], preprocessing["inputs"]
    calibration = Examples(
        {name: _widened(kept[f"calibration_{name}"], length, _fill(name, tokenizer)) for name in inputs},
        None,
        {"split": "train", "source": facts["source"], "names": kept["calibration_names"].tolist()},
    )
    heads = text_session.heads_of(preprocessing)
    columns = sentences.Columns(config["text_column"], config["label_column"], config["tags_column"])
    try:
        source = text_session.labelled(heads, data or facts["source"], columns)
        chosen = splits.reuse(source, "validation", facts, membership.beside(folder, facts))
        of = len(chosen)
        if of > MOST_MEASURED:
            order = np.sort(np.random.default_rng(0).permutation(of)[:MOST_MEASURED])
            chosen = [chosen[i] for i in order]
        found = texts.encode(chosen, tokenizer, heads, source.labels, inputs=inputs, max_length=length)
    except (DataError, ConfigError, UnknownName) as error:
        if data is not None:
            raise
        count = len(kept["parity_names"])
        warn(f"the files are measured on the {count} validation sentences that the run keeps, not "
            f"on all: {error}")
        given = {name: _widened(kept[f"parity_{name}"], length, _fill(name, tokenizer)) for name in inputs}
        targets = {key.removeprefix("parity_target_"): v for key, v in kept.items() if key.startswith("parity_target_")}
        kinds_of = {head.name: head.kind for head in heads}
        targets = {
            n: _widened(v, length, -1) if kinds_of.get(n or heads[0].name) == "tags" else v for n, v in targets.items()
        }
        facts = {"split": "validation", "source": "kept by the run", "of": facts["splits"]["validation"]["examples"]}
        return Examples(given, targets.get("", targets), facts), calibration
    everything = range(len(found))
    targets = padded_targets(found, everything, length)
    facts = {"split": "validation", "source": source.name, "of": of}
    kinds = {head.name: head.kind for head in heads}
    measured = Examples(
        padded(found, everything, length),
        targets.get("", targets),
        facts,
        found.sentences,
        scorers={head.name: _scorer(head, found) for head in heads if head.kind == "tags"},
        stated=stated(content, source, kinds, len(found)),
    )
    return measured, calibration


def _scorer(head: Head, found: Texts) -> Callable[[np.ndarray], Score]:
    """What makes entity F1 of rows of tokens; words that were cut off count as missed."""
    targets = found.targets[head.name] if isinstance(found.targets, Mapping) else found.targets
    return lambda rows: entity_f1(*tag_sequences(head, rows, targets))


def _widened(values: np.ndarray, length: int, fill: int) -> np.ndarray:
    return np.pad(values, [(0, 0), (0, length - values.shape[1])], constant_values=fill)


def _fill(name: str, tokenizer: Tokenizer) -> int:
    return tokenizer.pad_id if name == "token_ids" else 0
