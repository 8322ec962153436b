"""Reads the weights of a backbone from a file of any Keras version.

Loading is all or nothing: every variable of the backbone is found in the file with its exact shape
before the first one is assigned, and read back afterwards.
"""

import contextlib
import io
import itertools
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from graft.zoo.backbones.table import Backbone
from graft.zoo.errors import ArtifactError, WeightsError
from graft.zoo.files.archives import opened_archive, opened_member
from graft.zoo.files.hdf5 import check_hdf5
from graft.zoo.graph.state import refresh_derived_state

if TYPE_CHECKING:
    import h5py
    import keras

__all__ = ["load_weights", "opened_weights"]


def load_weights(model: "keras.Model", row: Backbone, path: Path) -> None:
    """Give every variable of `model`, the backbone `row` as keras.applications builds it, its value
    from `path`.

    Numbers stored in another precision (float16) are cast. What the file holds beside the backbone
    is ignored.

    Raises:
        WeightsError: the file is damaged, or of another architecture; the message names the first
            layer that differs and both shapes. `model` is then as it was.
    """
    with opened_weights(path) as file:
        fit = _best_reading(_readings(model, file))
        if fit is None:
            raise WeightsError(
                f"'{path}' holds no Keras weights: expected a .weights.h5, .h5 or .keras file"
            )
        if fit.problem:
            raise WeightsError(
                f"'{path}' does not fit backbone '{row.name}': {fit.problem}; "
                "give weights of this architecture, or choose the backbone they were made for"
            )
        _assign(fit.pairs, path)
    refresh_derived_state(model)


def _best_reading(readings: Iterable["_Reading"]) -> "_Reading | None":
    """The first one that fits; else the one that came farthest, whose complaint helps most."""
    best = None
    for reading in readings:
        if not reading.problem:
            return reading
        if best is None or len(reading.pairs) > len(best.pairs):
            best = reading
    return best


InnerModels = Literal["apart", "dissolved", "whole"]
"""How a file keeps models inside the model; see `_slots`."""
LEGACY_LAYOUTS: tuple[InnerModels, ...] = ("whole", "dissolved")
KERAS_3_LAYOUTS: tuple[InnerModels, ...] = ("apart", "dissolved")


@dataclass(frozen=True)
class _Slot:
    """Variables that a file keeps together, and the place where Keras 3 puts them."""

    layer: "keras.layers.Layer"
    place: str

    @property
    def variables(self) -> list["keras.Variable"]:
        return self.layer.trainable_weights + self.layer.non_trainable_weights


@dataclass(frozen=True)
class _Reading:
    """How far one way of reading a file came: what was matched, and what stopped it."""

    slots: list[_Slot]
    pairs: list[tuple["keras.Variable", "h5py.Dataset"]]
    problem: str | None


@contextlib.contextmanager
def opened_weights(path: Path) -> Iterator["h5py.File"]:
    """The HDF5 content of a weights file, a .h5 or the member of a .keras archive.

    Raises:
        WeightsError: it cannot be read, or reaches outside of its file.
    """
    import h5py

    try:
        with contextlib.ExitStack() as stack:
            size = path.stat().st_size
            source: Path | io.IOBase = path
            if zipfile.is_zipfile(path):
                archive = stack.enter_context(opened_archive(path))
                source = stack.enter_context(opened_member(archive, path, "model.weights.h5"))
            file = stack.enter_context(h5py.File(source, "r"))
            check_hdf5(file, path, size)
            yield file
    except ArtifactError as error:
        raise WeightsError(str(error)) from error
    except WeightsError:
        raise
    except Exception as error:  # damaged content shows in any exception
        raise WeightsError(
            f"'{path}' cannot be read as weights ({str(error)[:200]}): expected a whole "
            ".weights.h5, .h5 or .keras file"
        ) from error


def _readings(model: "keras.Model", file: "h5py.File") -> Iterator[_Reading]:
    """Every way in which the file may hold the backbone: its layout, nested models, the backbone
    inside a model.
    """
    legacy = file.get("model_weights", file)
    if "layer_names" in legacy.attrs or "layer_names0" in legacy.attrs:
        entries = [(name, _legacy_arrays(legacy[name])) for name in _names(legacy, "layer_names")]
        entries = [entry for entry in entries if entry[1]]
        for inner in LEGACY_LAYOUTS:
            yield _match(_slots(model, inner), entries)
        return
    roots = [""] if "layers" in file else []
    file.visit(
        lambda place: (
            roots.append(place.removesuffix("layers")) if place.endswith("/layers") else None
        )
    )
    for root in roots:
        for inner in KERAS_3_LAYOUTS:
            slots = _slots(model, inner)
            yield _match(slots, [_arrays(file, f"{root}{slot.place}/vars") for slot in slots])


def _slots(model: "keras.Model", inner: InnerModels) -> list[_Slot]:
    """The layers of `model` that hold weights, in order, each with its place in a file of Keras 3.

    Keras 3 calls a layer by its class and a number within its model. Models inside the model are
    kept "apart", as keras.applications saves them; "dissolved", as a flat model saves them; or a
    "whole" one counts as one layer, as older Keras versions had it.
    """
    import keras

    slots: list[_Slot] = []

    def walk(parent: "keras.Model", prefix: str, counts: Counter[str]) -> None:
        for layer in parent.layers:
            is_model = isinstance(layer, keras.Model)
            if is_model and inner == "dissolved":
                walk(layer, prefix, counts)
                continue
            kind = _snake_case(type(layer).__name__)
            place = f"{prefix}layers/{kind}" + (f"_{counts[kind]}" if counts[kind] else "")
            counts[kind] += 1
            if is_model and inner == "apart":
                walk(layer, f"{place}/", Counter())
            elif layer.weights:
                slots.append(_Slot(layer, place))

    walk(model, "", Counter())
    return slots


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _arrays(file: "h5py.File", place: str) -> tuple[str, list["h5py.Dataset"]]:
    """What a file of Keras 3 calls the layer at `place`, and its arrays; both empty where there is
    none.
    """
    if place not in file:
        return "", []
    group = file[place]
    return group.attrs.get("name", ""), [group[key] for key in sorted(group, key=int)]


def _legacy_arrays(group: "h5py.Group") -> list["h5py.Dataset"]:
    return [group[name] for name in _names(group, "weight_names")]


def _names(group: "h5py.Group", attribute: str) -> list[str]:
    """A list of names; HDF5 limits an attribute's size, so long lists are split into numbered
    attributes.
    """
    numbered = itertools.takewhile(
        group.attrs.__contains__, (f"{attribute}{i}" for i in itertools.count())
    )
    parts = [attribute] if attribute in group.attrs else numbered
    return [
        name.decode() if isinstance(name, bytes) else name
        for part in parts
        for name in group.attrs[part]
    ]


def _match(slots: list[_Slot], entries: list[tuple[str, list["h5py.Dataset"]]]) -> _Reading:
    """How far `entries`, a name and arrays each, fit `slots`, one after the other."""
    pairs: list[tuple[keras.Variable, h5py.Dataset]] = []
    missing: list[tuple[str, list[h5py.Dataset]]] = [("", [])] * len(slots)
    for slot, (name, arrays) in zip(slots, [*entries, *missing], strict=False):
        problem = _difference(slot, name, arrays)
        if problem:
            return _Reading(slots, pairs, problem)
        pairs += zip(slot.variables, arrays, strict=True)
    return _Reading(slots, pairs, None)


def _difference(slot: _Slot, called: str, arrays: list["h5py.Dataset"]) -> str | None:
    """What is wrong with `arrays`, which belong to the layer `called` in the file, as the weights
    of `slot`.
    """
    name, needed = slot.layer.name, [tuple(variable.shape) for variable in slot.variables]
    found = [tuple(array.shape) for array in arrays]
    if not arrays:
        return f"the file has no layer '{name}', which has {_listed(needed)}"
    if found != needed:
        alias = f" (called '{called}' there)" if called not in ("", name) else ""
        return f"layer '{name}' has {_listed(needed)}, in the file{alias} {_listed(found)}"
    for variable, array in zip(slot.variables, arrays, strict=True):
        if "float" in variable.dtype and array.dtype.kind != "f":
            return (
                f"layer '{name}' has {variable.dtype} numbers, in the file {array.dtype} (of a "
                "quantized model?)"
            )
    return None


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return ("shape " if len(shapes) == 1 else "shapes ") + ", ".join(map(str, shapes))


def _assign(pairs: list[tuple["keras.Variable", "h5py.Dataset"]], path: Path) -> None:
    import keras
    import numpy as np

    values = [(variable, np.asarray(array).astype(variable.dtype)) for variable, array in pairs]
    for variable, value in values:
        if not np.isfinite(value).all():
            raise WeightsError(
                f"'{path}' is damaged: '{variable.path}' holds numbers that are not finite"
            )
    for variable, value in values:
        variable.assign(value)
    for variable, value in values:
        if not np.array_equal(keras.ops.convert_to_numpy(variable), value):
            raise WeightsError(
                f"'{variable.path}' is not what '{path}' holds after it was assigned"
            )
