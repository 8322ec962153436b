"""Which content a file has, without reading it again: an index of the digests of files.

A file counts as known while its size, its times of modification and of change in nanoseconds and
its inode are what they were. Times say nothing on a network folder, nor of a file that was written
within `RACY_SECONDS` before it was read: such files are read again, and so are all with
`--verify-data`.

FOLDER/files/HASH.npy   rows of `ROW`, sorted by nothing; HASH is of their content
"""

import contextlib
import functools
import hashlib
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from graft.recipes.data.records import known_digest, note_digest
from graft.zoo.contents import Packed, content_digest, digest_halves, file_of
from graft.zoo.errors import ConfigError
from graft.zoo.files import flock
from graft.zoo.files.guards import is_disk_full
from graft.zoo.files.staging import staged_file
from graft.zoo.hashing import hash_of
from graft.zoo.terminal import progress, say

__all__ = ["KnownFiles", "network_file_system"]

ROW = np.dtype(
    [
        ("path", "<u8"),
        ("size", "<i8"),
        ("modified", "<i8"),
        ("changed", "<i8"),
        ("inode", "<u8"),
        ("digest", "<u8", 2),
    ]
)
"""A hash of the absolute path, what the disk says of the file, and the digest of its content."""
SAID = ("path", "size", "modified", "changed", "inode")
NOT_THERE = (0, 0, 0, 0, 0)
RACY_SECONDS = 2
"""Some file systems count time in steps of two seconds: a file that is younger may change and seem
the same.
"""
MOST_PARTS = 8
"""Files of the index; beyond it they become one."""
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "9p")
"""File systems on other machines, and all that begin with "fuse."."""


class KnownFiles:
    """The digests of files that were read before, kept in `folder`; None: nothing is kept.

    `trusted` says whether what the disk says of a file is believed: not if all data are to be
    verified. Of files on another machine it never is.
    """

    def __init__(self, folder: Path | None, trusted: bool = True):
        self.folder, self.trusted = folder, trusted
        self._rows = np.zeros(0, ROW)
        self._new: list[tuple] = []
        self._remote: dict[str, str | None] = {}
        if folder is not None and trusted:
            self._rows = _latest(_read_parts(folder))

    def digests(self, paths: Sequence[Path | Packed]) -> list[str | None]:
        """The digest of each file, None for one that has to be read."""
        if not len(self._rows) or not len(paths) or not self.trusted:
            return [None] * len(paths)
        asked = np.zeros(len(paths), ROW)
        described = [NOT_THERE if self._is_remote(path) else _described_now(path) for path in paths]
        for name, column in zip(SAID, zip(*described, strict=True), strict=True):
            asked[name] = column
        places = np.searchsorted(self._rows["path"], asked["path"])
        places = np.minimum(places, len(self._rows) - 1)
        found = self._rows[places]
        same = asked["size"] >= 0
        for name in SAID:
            same &= asked[name] == found[name]
        same &= asked["path"] != 0
        return [
            f"{high:016x}{low:016x}" if known else None
            for known, (high, low) in zip(same.tolist(), found["digest"].tolist(), strict=True)
        ]

    def _is_remote(self, path: Path | Packed) -> bool:
        """Whether a file lies on another machine, whose clock is not ours; says so once."""
        folder = str(file_of(path)).rpartition(os.sep)[0]
        if folder not in self._remote:
            place = Path(folder or os.curdir)
            kind = self._remote[folder] = network_file_system(place)
            if kind and list(self._remote.values()).count(kind) == 1:
                say(f"'{place}' lies on another machine ({kind}): its files are read in every run")
        return self._remote[folder] is not None

    def tell(self, records: Sequence[Any]) -> None:
        """Tell the records, whose `image` is a file, the digests that are known."""
        asking = [record for record in records if known_digest(record) is None]
        digests = self.digests([record.image for record in asking])
        for record, digest in zip(asking, digests, strict=True):
            if digest is not None:
                note_digest(record, digest)

    def know(self, records: Sequence[Any], title: str) -> None:
        """Tell each record, whose `image` is a file, its digest; what is not known is read, in
        parallel, with a progress bar called `title`; `save` keeps it.
        """
        self.tell(records)
        paths = [record.image for record in records]
        missing = [i for i, record in enumerate(records) if known_digest(record) is None]
        if not missing:
            return

        def read(i: int) -> tuple[os.stat_result | None, str]:
            before = None
            with contextlib.suppress(OSError):
                before = os.stat(file_of(paths[i]))
            return before, content_digest(paths[i])

        with ThreadPoolExecutor() as pool, progress(title, len(missing)) as advance:
            for i, (before, digest) in zip(missing, pool.map(read, missing), strict=True):
                note_digest(records[i], digest)
                if before is not None:
                    self.note(paths[i], before, digest)
                advance()

    def note(self, path: Path | Packed, before: os.stat_result, digest: str) -> None:
        """A file was read that the disk described so `before`."""
        if self.folder is None or self._is_remote(path):
            return
        with contextlib.suppress(OSError):
            row = _described(path, before)
            if row == _described(path, os.stat(file_of(path))):
                self._new.append((*row, digest_halves(digest)))

    def save(self) -> None:
        """Keep what was noted; files that were written a moment ago are left out.

        Raises:
            ConfigError: the folder cannot be written.
        """
        if self.folder is None or not self._new:
            return
        folder = self.folder / "files"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            now = flock.disk_time(folder)
            rows = np.array(self._new, ROW)
            rows = rows[rows["modified"] < (now - RACY_SECONDS) * 1e9]
            rows = rows[rows["changed"] < (now - RACY_SECONDS) * 1e9]
            self._new = []
            if len(rows):
                _add_part(self.folder, rows)
                self._rows = _latest([self._rows, rows])
        except OSError as error:
            why = "no space is left" if is_disk_full(error) else error.strerror or error
            raise ConfigError(
                f"what is known of the data cannot be kept in '{folder}' ({why}): free some space, "
                "let it be written, or pass --cache off"
            ) from error


def network_file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The file system of another machine on which `path` lies; None: it lies on this one, or the
    operating system does not say.
    """
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    place, found = path.absolute().resolve(), (Path("/"), "")
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        point = Path(point.encode("latin-1", "replace").decode("unicode_escape"))
        # The last of those that are mounted on one point is the one that is seen.
        if place.is_relative_to(point) and len(point.parts) >= len(found[0].parts):
            found = (point, kind)
    kind = found[1]
    return kind if kind in NETWORK or kind.startswith("fuse.") else None


def _described_now(path: Path | Packed) -> tuple:
    try:
        return _described(path, os.stat(file_of(path)))
    except OSError:
        return NOT_THERE


def _described(path: Path | Packed, found: os.stat_result) -> tuple:
    """The path as a number, and what the disk says; an inode that is no plain file is like none."""
    size = found.st_size if stat.S_ISREG(found.st_mode) else -1
    folder, slash, name = str(file_of(path)).rpartition(os.sep)
    place = os.fsencode(os.path.join(_absolute(folder + slash, os.getcwd()), name))
    if isinstance(path, Packed):
        place += b"\0%d\0%s" % (path.place, os.fsencode(path.column))
    key = int.from_bytes(hashlib.blake2b(place, digest_size=8).digest(), "big") or 1
    return key, size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


@functools.lru_cache(1024)
def _absolute(folder: str, beside: str) -> str:
    """`folder` from the root of the file system, where it is relative to `beside`."""
    return os.path.normpath(os.path.join(beside, folder)) if folder else beside


def _read_parts(folder: Path) -> list[np.ndarray]:
    """The parts of the index that are whole, the oldest first; others are removed."""
    files = []
    for path in (folder / "files").glob("[!.]*.npy"):
        with contextlib.suppress(OSError):  # another process has joined parts
            files.append((path.stat().st_mtime_ns, path))
    parts = []
    for _, path in sorted(files):
        try:
            if not path.is_file():
                continue
            rows = np.load(path, allow_pickle=False)
            if rows.dtype != ROW or rows.ndim != 1 or _name(rows) != path.name:
                raise ValueError("another content")
            parts.append(rows)
        except FileNotFoundError:
            continue
        except Exception:  # damaged: its files are read again
            with contextlib.suppress(OSError):
                path.unlink()
    return parts


def _add_part(folder: Path, rows: np.ndarray) -> None:
    place = folder / "files"
    before = list(place.glob("[!.]*.npy"))
    joined = len(before) >= MOST_PARTS
    if joined:
        rows = _latest([*_read_parts(folder), rows])
    with staged_file(place / _name(rows)) as path, path.open("wb") as file:
        np.save(file, rows)
    for path in before if joined else ():
        if path.name != _name(rows):
            with contextlib.suppress(OSError):
                path.unlink()


def _name(rows: np.ndarray) -> str:
    return f"{hash_of(rows.view(np.uint8))}.npy"


def _latest(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One row a path, the last one, sorted by path."""
    rows = np.concatenate([np.zeros(0, ROW), *parts])[::-1]
    _, first = np.unique(rows["path"], return_index=True)
    return rows[first]
