"""The folder in which a run is made: hidden beside its place, kept when it is interrupted, renamed
when it is complete.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from graft.recipes.train.checkpoint import is_older, refuse_other_formats
from graft.zoo.errors import ArtifactError, ConfigError, DiskFull, GraftError
from graft.zoo.files import flock, leases
from graft.zoo.files.guards import is_disk_full
from graft.zoo.files.reading import read_json
from graft.zoo.files.staging import remove_path, replace_folder, settle_replacement
from graft.zoo.files.writing import write_text
from graft.zoo.processes import asked_to_end
from graft.zoo.terminal import say

__all__ = ["drop_older", "finished", "refuse_begun", "settle_run", "standing", "workspace"]

SETTINGS = "settings.json"
FREE = ("out", "overwrite", "resume", "verify_data", "ray")
"""Options that may differ between a run and its resumption."""
BEFORE = {"image_fit": "stretch"}
"""What held in runs of an older Graft that could not be told otherwise."""
OWN_REPORT = ("self-supervised",)
"""Recipes whose report shows more than their run holds."""


def finished(out: Path, settings: Mapping) -> bool:
    """Whether `out` is to be resumed and is complete already, of these `settings`. A report that it
    lacks is written.

    Raises:
        ConfigError: it was made with other settings; names the fields. Or somebody else is making
            it.
    """
    out = Path(out)
    if not settings["resume"]:
        return False
    with leases.hold_lease(out):
        settle_run(out)
        if not (out / "run.json").exists() or _replaces(_folder_of(out)):
            return False
        content = read_json(out / "run.json", dict)
        _refuse_changes(out, content.get("config", {}), settings)
        lacking = not (out / "report.html").exists() and content.get("recipe") not in (
            None,
            *OWN_REPORT,
        )
        if lacking:
            from graft.recipes.report import report

            report.write(out)
    say(
        f"'{out}' is complete: nothing to resume"
        + (" but its report, which is written now" if lacking else "")
    )
    return True


@contextlib.contextmanager
def workspace(out: Path, settings: Mapping, fingerprint: str) -> Iterator[Path]:
    """Yield the folder to work in; on success it becomes `out`, which nobody else can write
    meanwhile.

    `settings` are those of the recipe, with "overwrite" and "resume"; `fingerprint` is that of the
    data. If training was interrupted after a checkpoint the folder stays, and "resume" yields it
    again.

    Raises:
        ConfigError: `out` exists, or an interrupted run of that name, and neither `overwrite` nor
            `resume` says what to do; or the run to resume had other settings or other data; or
            somebody else is making `out`.
        ArtifactError: what is to be resumed was begun by another Graft, or is damaged.
    """
    out = Path(out)
    _refuse_both(settings["overwrite"], settings["resume"])
    with leases.hold_lease(out) as lease:
        settle_run(out)
        folder, complete = _folder_of(out), False
        _begin(
            out, folder, {**settings, "content or splits of the data": fingerprint}
        )  # before: the content alone
        try:
            yield folder
            # The checkpoints go last: if the folder cannot take its place, --resume still finds
            # everything.
            replace_folder(folder, out)
            complete = True
            _tidy(out)
        except BaseException as error:
            if not lease.lost():
                _tell(error, out, folder, complete)
            raise
        finally:
            if not lease.lost() and not _has_checkpoint(folder):
                remove_path(folder)


def refuse_begun(out: Path, overwrite: bool, resume: bool) -> None:
    """Refuse early what `workspace` would refuse because of what is there; a complete run that is
    to be resumed is nothing of that.

    Raises:
        ConfigError: as `workspace`.
    """
    _refuse_both(overwrite, resume)
    folder = _folder_of(out)
    if not (resume and (out / "run.json").exists() and not _replaces(folder)):
        _refuse_there(out, folder, overwrite, resume)


def standing(out: Path) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """(when and where the run was written, when and where its interrupted training was begun), by
    which it is seen whether they are the same later; None where there is none.
    """
    folder = _folder_of(out)
    files = out / "run.json", folder / SETTINGS if _has_checkpoint(folder) else None
    known = (file.stat() if file is not None and file.exists() else None for file in files)
    run, begun = (found and (found.st_mtime_ns, found.st_ino) for found in known)
    return run, begun


def settle_run(out: Path) -> None:
    """Finish what a process left that was killed while it made `out`, and remove_path what it left
    besides; whoever calls it holds the lease of `out`. A run that can be resumed stays.
    """
    folder = _folder_of(out)
    settle_replacement(folder, out)
    if (out / SETTINGS).exists() and (out / "run.json").exists():
        _tidy(out)
    if folder.exists() and not _has_checkpoint(folder):
        remove_path(folder)


def drop_older(out: Path) -> None:
    """Remove the interrupted training of `out` if an older Graft began it, for who would only start
    it anew; says so.

    Raises:
        ArtifactError: it is damaged.
        ConfigError: somebody is making `out`.
    """
    folder = _folder_of(out)
    if is_older(folder / "checkpoint"):
        with leases.hold_lease(out):
            remove_path(folder)
        say(f"'{out}' was begun by an older Graft and interrupted: it is trained anew")


def _tell(error: BaseException, out: Path, folder: Path, complete: bool) -> None:
    """Say what is left of a run that `error` ends, in the one line of the error where it has one.

    Raises:
        DiskFull: `error` says that the disk is full.
    """
    kept = _has_checkpoint(folder)
    resume = "--resume instead of --overwrite" if kept and _replaces(folder) else "--resume"
    if complete:
        told = f"'{out}' is complete"
    elif kept:
        told = f"'{out}' is kept as of its last finished epoch: {resume} goes on with it"
    elif out.exists():
        told = f"no epoch was finished: '{out}' is as it was"
    else:
        told = f"no epoch was finished: nothing is left of '{out}'"
    full = isinstance(error, DiskFull)
    if full or (
        isinstance(error, Exception) and not isinstance(error, GraftError) and is_disk_full(error)
    ):
        later = f"; {resume} then goes on after the last finished epoch" if kept else f" ({told})"
        raise DiskFull(error.place if full else out, f"free some space{later}") from error
    ended = asked_to_end(error)
    if ended is not None:
        ended.add_note(told)
    elif kept:
        say(told)


def _folder_of(out: Path) -> Path:
    out = flock.resolve_links(
        out
    )  # on the disk that a link leads to, which may have been made for it
    return out.with_name(f".{out.name}.part")


def _tidy(out: Path) -> None:
    """Remove from a complete run what only its making needed."""
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
    (out / SETTINGS).unlink()


def _begin(out: Path, folder: Path, known: Mapping) -> None:
    """Make `folder` ready for the settings `known`: what is in it already where they say so, else
    empty.
    """
    resume, begun = known["resume"], _has_checkpoint(folder)
    _refuse_there(out, folder, known["overwrite"], resume)
    if resume and begun:
        refuse_other_formats(
            folder / "checkpoint"
        )  # first: settings and data may have been written otherwise too
        _refuse_changes(out, read_json(folder / SETTINGS, dict), known)
        say(f"resuming '{out}'")
        return
    if resume:
        say(f"'{out}' has no checkpoint: starting from the beginning")
    remove_path(folder)
    folder.mkdir(parents=True)
    write_text(folder / SETTINGS, json.dumps(known))


def _refuse_both(overwrite: bool, resume: bool) -> None:
    if overwrite and resume:
        raise ConfigError("--overwrite starts anew and --resume goes on: choose one of them")


def _refuse_there(out: Path, folder: Path, overwrite: bool, resume: bool) -> None:
    """Refuse what is at `out`, or was begun in `folder`, where nothing says what to do with it."""
    if out.exists() and not (overwrite or (resume and _replaces(folder))):
        more = (
            "; --resume goes on with the training that was to replace it"
            if _replaces(folder)
            else ""
        )
        raise ConfigError(
            f"'{out}' exists already: --overwrite replaces it, or give another --out{more}"
        )
    if _has_checkpoint(folder) and not (overwrite or resume):
        raise ConfigError(
            f"'{out}' was begun and interrupted: --resume goes on with it, --overwrite starts anew"
        )


def _replaces(folder: Path) -> bool:
    """Whether the interrupted training in `folder` was to replace the run that is there."""
    if not _has_checkpoint(folder):
        return False
    return bool(read_json(folder / SETTINGS, dict).get("overwrite"))


def _has_checkpoint(folder: Path) -> bool:
    return (folder / SETTINGS).exists() and any((folder / "checkpoint").glob("*/*.npz"))


def _refuse_changes(out: Path, before: Mapping, now: Mapping) -> None:
    before, now = json.loads(json.dumps(before)), json.loads(json.dumps(now))
    if not isinstance(before, dict) or any(
        isinstance(value, dict) and not isinstance(before.get(name, {}), dict)
        for name, value in now.items()
    ):
        raise ArtifactError(f"the settings of '{out}' are damaged: make it anew with --overwrite")
    changed = _changed(before, now)
    if changed:
        raise ConfigError(
            f"'{out}' was begun with other settings: {', '.join(changed)}: give the same ones to "
            "--resume, or --overwrite"
        )


def _changed(before: Mapping, now: Mapping) -> list[str]:
    """What is set otherwise now; a setting that an older Graft did not know and that says nothing
    of the result has changed nothing.
    """
    changed = []
    for name, value in now.items():
        then = before.get(name, BEFORE.get(name, value))
        if name in FREE or then == value:
            continue
        if isinstance(value, dict):
            changed += _changed(then, value)
        else:
            changed.append(f"{name} ({then!r} then, {value!r} now)")
    return changed
