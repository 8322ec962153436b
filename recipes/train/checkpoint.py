"""Where a training stands, written after each epoch, so that a killed one goes on as if nothing had
happened.

One file for the seed in progress (weights that the schedule can change, optimizer, random states,
the best epoch, the history) and one for each finished seed. A file replaces the one before by a
rename, so there is always a whole one.

What a training does not change is not in them: origin.json holds a hash of the backbone that it
began with, and the versions of the libraries, so that nobody goes on with another one under the
same name. It also holds the format of all this: what was begun in another one is refused before
anything is done.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from graft.recipes.train.phases.joined import forms_of, join_arrays, part_arrays
from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.files.guards import one_line_if_damaged
from graft.zoo.files.reading import read_arrays, read_json
from graft.zoo.files.staging import staged_file
from graft.zoo.files.writing import write_text
from graft.zoo.hashing import hash_of
from graft.zoo.terminal import warn

__all__ = ["Checkpoint", "Checkpoints", "epochs_in", "is_older", "refuse_other_formats"]

ANEW = "train anew with --overwrite"
"""What to do about a checkpoint that cannot be read."""
ORIGIN = "origin.json"
FORMAT = 3
"""Of a folder of checkpoints: one more whenever a field or its meaning changes, what an epoch is
kept by, or the order of the labels, so that weights or figures of before would be taken for
something else. Format 1 did not name itself.
"""
PACKAGES = ("graft-zoo", "keras", "tensorflow")
FIELD_TYPES: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "dict": (dict,),
}
"""What a field of a checkpoint may hold, by its annotation; any other one holds a list."""


@dataclass
class Checkpoint:
    """The state of one seed.

    Attributes:
        phase: the phase that goes on, counted from 0.
        epochs_done: its finished epochs.
        variables: the values of all variables that the schedule changes.
        optimizer: those of the optimizer of `phase`, and of what balances its tasks; empty between
            two phases.
        best: the weights of the best epoch of `phase` so far.
        stopping: what early stopping knows: "best", "best_epoch", "wait", and whether it has
            "stopped".
        rows: a row for each epoch of `phase` so far.
        history, summaries: of the phases before it.
        seconds, charged: of the training so far; see `budget.Clock`.
        began: what that clock showed when `phase` began to train; None: it has not.
        views: the views of cached examples that it has taken.
        kept: the best epoch of the finished phases, as `fit.Trained` has it.
        kept_variables: what `variables` were then.
    """

    phase: int = 0
    epochs_done: int = 0
    variables: list[np.ndarray] = field(default_factory=list, repr=False)
    optimizer: list[np.ndarray] = field(default_factory=list, repr=False)
    best: list[np.ndarray] = field(default_factory=list, repr=False)
    stopping: dict = field(default_factory=dict)
    rows: list[dict] = field(default_factory=list)
    history: list[dict] = field(default_factory=list)
    summaries: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    charged: float = 0.0
    began: float | None = None
    views: int = 0
    kept: dict = field(default_factory=dict)
    kept_variables: list[np.ndarray] = field(default_factory=list, repr=False)


def epochs_in(folder: Path) -> list[dict]:
    """A row for each epoch that a training has finished, by its checkpoints in `folder`; another
    process may be at it.
    """
    for file in sorted(folder.glob("seed-*.npz")):
        try:
            with np.load(file) as content:
                facts = json.loads(str(content["facts"]))[0]
            return [
                row for row in [*facts["history"], *facts.get("rows", ())] if isinstance(row, dict)
            ]
        except Exception:  # it is replaced just now, or damaged: whoever goes on with it says so
            continue
    return []


def refuse_other_formats(folder: Path) -> None:
    """Refuse a training that cannot go on, before anything is made ready for it; `folder` holds a
    folder of checkpoints for each of its parts.

    Raises:
        ArtifactError: another Graft began it, or origin.json is damaged.
    """
    for part in sorted({file.parent for file in folder.glob("*/seed-*.npz")}):
        _origin_of(part)


def is_older(folder: Path) -> bool:
    """Whether an older Graft began one of the parts of the training in `folder`, as
    `refuse_other_formats` has it.

    Raises:
        ArtifactError: origin.json is damaged.
    """
    files = folder.glob("*/seed-*.npz")
    return any(_format_of(_read_origin(file.parent)) < FORMAT for file in files)


def _read_origin(folder: Path) -> dict:
    """The content of origin.json, `{}` where there is none.

    Raises:
        ArtifactError: it is damaged.
    """
    file = folder / ORIGIN
    known = read_json(file, dict, ANEW) if file.exists() else {}
    if type(_format_of(known)) is not int or not isinstance(known.get("versions", {}), dict):
        raise ArtifactError(f"'{file}' is damaged: {ANEW}")
    return known


def _format_of(known: Mapping) -> int:
    return known.get("format", 1)


def _origin_of(folder: Path) -> dict:
    """What origin.json says of the checkpoints in `folder`.

    Raises:
        ArtifactError: they are of another format, or it is damaged.
    """
    known = _read_origin(folder)
    form = _format_of(known)
    if form != FORMAT:
        which, instead = ("an older", "") if form < FORMAT else ("a newer", "update graft-zoo, or ")
        raise ArtifactError(
            f"the training in '{folder}' was begun by {which} Graft (checkpoints of format {form}, "
            f"this one goes on with {FORMAT}): {instead}{ANEW}"
        )
    if "versions" not in known:
        raise ArtifactError(f"'{folder / ORIGIN}' is damaged: {ANEW}")
    return known


class Checkpoints:
    """The checkpoints of one training in `folder`; without a folder nothing is kept."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        if folder is not None:
            for part in folder.glob(".*"):  # what a killed process was writing
                shutil.rmtree(part, ignore_errors=True)

    def check_origin(self, backbone: Sequence[np.ndarray]) -> None:
        """Compare the weights of the `backbone` with those that the training began with; if it
        begins now, note them.

        Warns of other versions of the libraries.

        Raises:
            ArtifactError: another Graft began it, or origin.json is damaged.
            ConfigError: they differ.
        """
        if self.folder is None:
            return
        versions = {name: metadata.version(name) for name in PACKAGES}
        own = hash_of(list(backbone))
        if not any(self.folder.glob("seed-*.npz")):  # it begins now
            origin = {"format": FORMAT, "backbone": own, "versions": versions}
            write_text(self.folder / ORIGIN, json.dumps(origin))
            return
        known = _origin_of(self.folder)
        if known.get("backbone") != own:
            raise ConfigError(
                "the weights of the backbone are not those that this training began with: what is "
                "trained already does not fit them; restore the file that they came from for "
                "--resume, or train anew with --overwrite"
            )
        changed = [
            f"{name} ({known['versions'].get(name)} then, {version} now)"
            for name, version in versions.items()
            if known["versions"].get(name) != version
        ]
        if changed:
            warn(
                f"the training was begun with other versions: {', '.join(changed)}: its result may "
                "differ slightly"
            )

    def save(self, seed: int, state: Checkpoint) -> None:
        """Replace the checkpoint of `seed`."""
        names = ("variables", "optimizer", "best", "kept_variables")
        arrays = {name: getattr(state, name) for name in names}
        facts = {name: value for name, value in vars(state).items() if name not in arrays}
        self._write(f"seed-{seed}.npz", facts, arrays)

    def load(self, seed: int) -> Checkpoint | None:
        """The checkpoint of `seed`, if there is one.

        Raises:
            ArtifactError: it cannot be read.
        """
        found = self._read(f"seed-{seed}.npz")
        with one_line_if_damaged(f"seed-{seed}.npz", ANEW):
            return None if found is None else _checked(Checkpoint(**found[0], **found[1]))

    def finish(
        self,
        seed: int,
        facts: Mapping,
        weights: Sequence[np.ndarray],
        beginning: Sequence[np.ndarray],
    ) -> None:
        """Keep the result of a finished seed; its checkpoint is needed no more. Of the `weights`,
        those that are still an array of the `beginning` are not written.
        """
        pairs = enumerate(zip(weights, beginning, strict=True))
        changed = [i for i, (new, old) in pairs if new is not old]
        arrays = {"weights": [weights[i] for i in changed]}
        self._write(f"seed-{seed}-done.npz", {**facts, "changed": changed}, arrays)
        if self.folder is not None:
            (self.folder / f"seed-{seed}.npz").unlink(missing_ok=True)

    def finished(
        self, seed: int, beginning: Sequence[np.ndarray]
    ) -> tuple[dict, list[np.ndarray]] | None:
        """What `finish` kept of `seed`, in the order in which it was given."""
        found = self._read(f"seed-{seed}-done.npz")
        if found is None:
            return None
        facts, lists = found
        weights = list(beginning)
        with one_line_if_damaged(f"seed-{seed}-done.npz", ANEW):
            for i, value in zip(facts.pop("changed"), lists["weights"], strict=True):
                if not 0 <= i < len(weights) or value.shape != tuple(weights[i].shape):
                    raise ValueError(f"its array {i} is none of this model")
                weights[i] = value
        return facts, weights

    def _write(self, name: str, facts: Mapping, lists: Mapping[str, Sequence[np.ndarray]]) -> None:
        if self.folder is None:
            return
        # One array a list: an archive takes longer over a hundred small ones than a step does.
        arrays = {kind: join_arrays(values) for kind, values in lists.items()}
        forms = {kind: forms_of(values) for kind, values in lists.items()}
        arrays["facts"] = np.array(json.dumps([facts, forms]))
        # The workspace knows what is kept.
        with staged_file(self.folder / name, hint="free some space") as path:
            np.savez(path, **arrays)

    def _read(self, name: str) -> tuple[dict, dict[str, list[np.ndarray]]] | None:
        if self.folder is None or not (self.folder / name).exists():
            return None
        file = self.folder / name
        try:
            arrays = read_arrays(file)
            facts, forms = json.loads(str(arrays["facts"]))
            return dict(facts), {
                kind: part_arrays(arrays[kind], own) for kind, own in forms.items()
            }
        except Exception as error:  # damaged content shows in any exception
            text = f"the checkpoint '{file}' cannot be read ({error}): {ANEW}"
            raise ArtifactError(text) from error


def _checked(state: Checkpoint) -> Checkpoint:
    """`state`, whose fields have the types that a training relies on."""
    for name, field_ in Checkpoint.__dataclass_fields__.items():
        value: Any = getattr(state, name)
        kinds = FIELD_TYPES.get(getattr(field_.type, "__name__", str(field_.type)), (list,))
        if not isinstance(value, kinds):
            raise TypeError(f"its '{name}' is {type(value).__name__}")
        tables = ("rows", "history", "summaries")
        if name in tables and not all(isinstance(row, dict) for row in value):
            raise TypeError(f"its '{name}' are no objects")
    return state
