"""The folder in which a run is made: hidden beside its place, kept when it is interrupted, renamed when it is complete."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from recipes.engine.progress import say
from recipes.engine.store import Store
from zoo.errors import ConfigError
from zoo.files import one_line_if_full, replace_folder, write_text

__all__ = ["finished", "store_beside", "workspace"]

SETTINGS = "settings.json"
FREE = ("out", "overwrite", "resume")
"""Options that may differ between a run and its resumption."""


def store_beside(out: Path, mode: str = "auto") -> Store | None:
    """The cache that all runs of one folder share; None where its `mode` is off."""
    return None if mode == "off" else Store(Path(out).parent / ".graft-cache")


def finished(out: Path, settings: Mapping) -> bool:
    """Whether `out` is to be resumed and is complete already, of these `settings`.

    Raises:
        ConfigError: it was made with other settings; names the fields.
    """
    if not (settings["resume"] and (Path(out) / "run.json").exists()):
        return False
    content = json.loads((Path(out) / "run.json").read_text(encoding="utf-8"))
    _refuse_changes(out, content.get("config", {}), settings)
    say(f"'{out}' is complete: nothing to resume")
    return True


@contextlib.contextmanager
def workspace(out: Path, settings: Mapping, fingerprint: str) -> Iterator[Path]:
    """Yield the folder to work in; on success it becomes `out`.

    `settings` are those of the recipe, with "overwrite" and "resume"; `fingerprint` is that of the data. If training was
    interrupted after a checkpoint the folder stays, and "resume" yields it again.

    Raises:
        ConfigError: `out` exists, or an interrupted run of that name, and neither `overwrite` nor `resume` says what to do;
            or the run to resume had other settings or other data.
    """
    out, overwrite, resume = Path(out), settings["overwrite"], settings["resume"]
    folder = out.absolute().with_name(f".{out.absolute().name}.part")
    if overwrite and resume:
        raise ConfigError("--overwrite starts anew and --resume goes on: choose one of them")
    if out.exists() and not overwrite:
        raise ConfigError(f"'{out}' exists already: --overwrite replaces it, or give another --out")
    if folder.exists() and not (overwrite or resume) and _has_checkpoint(folder):
        raise ConfigError(f"'{out}' was begun and interrupted: --resume goes on with it, --overwrite starts anew")
    known = {**settings, "content or splits of the data": fingerprint}  # older Grafts had the content alone
    if resume and _has_checkpoint(folder):
        _refuse_changes(out, json.loads((folder / SETTINGS).read_text(encoding="utf-8")), known)
        say(f"resuming '{out}'")
    else:
        if resume:
            say(f"'{out}' has no checkpoint: starting from the beginning")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_text(folder / SETTINGS, json.dumps(known))
    try:
        with one_line_if_full(out, "free some space; --resume then goes on after the last finished epoch"):
            yield folder
            # The checkpoints go last: if the folder cannot take its place, --resume still finds everything.
            replace_folder(folder, out)
            shutil.rmtree(out / "checkpoint", ignore_errors=True)
            (out / SETTINGS).unlink()
    except BaseException:
        if _has_checkpoint(folder):
            say(f"'{out}' is kept as of its last finished epoch: --resume goes on with it")
        raise
    finally:
        if not _has_checkpoint(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _has_checkpoint(folder: Path) -> bool:
    return (folder / SETTINGS).exists() and any((folder / "checkpoint").glob("*/*.npz"))


def _refuse_changes(out: Path, before: Mapping, now: Mapping) -> None:
    before, now = json.loads(json.dumps(before)), json.loads(json.dumps(now))
    changed = [
        f"{name} ({before.get(name)!r} then, {value!r} now)"
        if not isinstance(value, dict)
        else _changed(name, before, now)
        for name, value in now.items()
        if name not in FREE and name in before and before[name] != value
    ]
    if changed:
        raise ConfigError(
            f"'{out}' was begun with other settings: {', '.join(changed)}: give the same ones to --resume, or --overwrite"
        )


def _changed(group: str, before: Mapping, now: Mapping) -> str:
    return ", ".join(
        f"{n} ({before[group].get(n)!r} then, {v!r} now)" for n, v in now[group].items() if before[group].get(n) != v
    )
