"""What lies beside a run because it was handed over in memory: its data and its backbone.

Nothing is replaced that Graft did not write, and what a run there was trained on stays until
another training has taken its place.
"""

import contextlib
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from graft.zoo.errors import ConfigError
from graft.zoo.files import flock, leases, marks
from graft.zoo.files.guards import NOTHING_LEFT_HINT, one_line_if_full
from graft.zoo.files.staging import remove_path
from graft.zoo.hashing import hash_of

__all__ = ["kept_beside"]

MARK = ".graft"
"""The file in a folder that says what Graft wrote there; an archive has it as its comment."""
NAMES = {"name", "shared_object_id", "keras_history", "input_layers", "output_layers"}
"""What of a layer is counted on, or else of one process."""


@contextlib.contextmanager
def kept_beside(config: Any, given: Mapping[Path, Callable[[Path], Any]]) -> Iterator[None]:
    """Write what is `given` before the block trains; where that comes to nothing, everything is as
    it was.

    Args:
        config: of the recipe; what can be refused of it is refused before anything is written.
        given: place -> what writes it, called with the path to write.

    Raises:
        ConfigError: the run is there already, and neither to be replaced nor resumed; a place holds
            what Graft did not write, or what else the run to resume was begun with.
    """
    from graft.recipes.runs import workspace

    out, resume = Path(config.out), getattr(config, "resume", False)
    places = {flock.resolve_links(place): write for place, write in given.items()}
    shown = dict(zip(places, given, strict=True))
    if hasattr(config, "check"):
        config.check()
    missing = [folder for folder in (out.parent, *out.parent.parents) if not folder.exists()]
    with leases.hold_lease(out), contextlib.ExitStack() as stack:
        workspace.settle_run(out)
        workspace.refuse_begun(out, getattr(config, "overwrite", False), resume)
        run, begun = workspace.standing(out)
        for place in places if begun is None else ():
            _settle(place, run)
        written = {
            place: stack.enter_context(_written(place, write)) for place, write in places.items()
        }
        goes_on = resume and (run, begun) != (None, None)
        there = {place: _digest(place) for place in places}
        changed = [place for place, new in written.items() if there[place] != _mark_of(new)]
        for place in changed:
            _refuse_replacement(place, there[place], goes_on, f"'{shown[place]}'", f"'{out}'")
        for place in changed:
            _put(written[place], place)
    try:
        yield
    except BaseException:
        run_now, begun_now = workspace.standing(out)
        if run_now == run and begun_now in (None, begun):
            for place in changed if begun_now else places:
                if place in changed or _earlier(place).exists():
                    _put_back(place)
            for folder in missing:
                with contextlib.suppress(OSError):
                    folder.rmdir()  # if nothing is in it
        raise
    for place in places:
        remove_path(_earlier(place))


@contextlib.contextmanager
def _written(place: Path, write: Callable[[Path], Any]) -> Iterator[Path]:
    """What `write` makes, marked as Graft's, in a hidden folder beside its place."""
    prefix = f".{place.name}.{flock.machine_id()}-"
    with (
        marks.marked_folder(prefix, place.parent) as folder,
        one_line_if_full(place, NOTHING_LEFT_HINT),
    ):
        new = folder / place.name
        write(new)
        _mark(new)
        yield new


def _refuse_replacement(
    place: Path, there: str | None, goes_on: bool, shown: str, out: str
) -> None:
    """Refuse to replace what is at `place`, which is `shown` so and has the digest `there`, by
    something else.

    Raises:
        ConfigError: it is not as Graft wrote it, or a training of `out` goes on with it.
    """
    if not os.path.lexists(place):
        return
    if there is None or _mark_of(place) != there:
        raise ConfigError(
            f"{shown} is not as Graft wrote it, and what {out} is trained on would be kept there: "
            "move it away, or give another out="
        )
    if goes_on:
        raise ConfigError(
            f"{out} was begun with other content of {shown}: give the same to resume=True, or "
            "overwrite=True"
        )


def _earlier(place: Path) -> Path:
    """The hidden folder with what was at `place` before."""
    return place.with_name(f".{place.name}.before")


def _put(new: Path, place: Path) -> None:
    """Move `new` to its place; what was there before the first such training is kept."""
    earlier = _earlier(place)
    if earlier.exists():
        remove_path(place)
    elif place.exists():
        earlier.mkdir()
        os.replace(place, earlier / place.name)
    os.replace(new, place)


def _put_back(place: Path) -> None:
    """Undo `_put`."""
    remove_path(place)
    earlier = _earlier(place)
    if (earlier / place.name).exists():
        os.replace(earlier / place.name, place)
    remove_path(earlier)


def _settle(place: Path, run: Sequence[int] | None) -> None:
    """Undo what a killed process put at `place`, unless the `run` was completed since."""
    earlier = _earlier(place)
    if run is not None and earlier.exists() and run[0] > earlier.stat().st_mtime_ns:
        remove_path(earlier)
    elif (earlier / place.name).exists():
        _put_back(place)


def _mark(new: Path) -> None:
    digest = _digest(new) or ""
    if new.is_dir():
        (new / MARK).write_text(digest, encoding="utf-8")
    else:
        with zipfile.ZipFile(new, "a") as archive:
            archive.comment = digest.encode()


def _mark_of(place: Path) -> str | None:
    """What `_mark` wrote; None where nothing was marked."""
    try:
        if place.is_dir():
            return (place / MARK).read_text(encoding="utf-8", errors="replace")
        with zipfile.ZipFile(place) as archive:
            return archive.comment.decode(errors="replace")
    except (OSError, zipfile.BadZipFile):
        return None


def _digest(place: Path) -> str | None:
    """A sha256 of what a folder holds, or a Keras model; None where there is neither."""
    found = hashlib.sha256()
    if not place.is_dir():
        try:
            found.update(repr(_model_content(place)).encode())
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        return found.hexdigest()
    for file in sorted(path for path in place.rglob("*") if path != place / MARK):
        found.update(f"\0{file.relative_to(place).as_posix()}\0".encode())
        if file.is_file():
            with file.open("rb") as content:
                found.update(hashlib.file_digest(content, "sha256").digest())
    return found.hexdigest()


def _model_content(file: Path) -> tuple[Any, dict[str, str]]:
    """(the layers in a .keras file, hashes of its weights), without what differs each time that the
    same model is made and saved.
    """
    import h5py

    weights = {}
    with zipfile.ZipFile(file) as archive:
        layers = _without_names(json.loads(archive.read("config.json")))
        content = io.BytesIO(archive.read("model.weights.h5"))

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            weights[name] = hash_of(item[()])

    with h5py.File(content) as found:
        found.visititems(add)
    return layers, weights


def _without_names(config: Any) -> Any:
    if isinstance(config, dict):
        kept = sorted(config.keys() - NAMES)
        return {key: _without_names(config[key]) for key in kept}
    return [*map(_without_names, config)] if isinstance(config, list) else config
