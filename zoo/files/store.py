"""What was computed once is found again: folders named by a hash of all that their content depends
on.

An entry appears whole or not at all, so that a process killed while it writes leaves nothing that
could be read. Each entry knows the sizes of its files and a hash of their content, which is
compared when a process first uses it: one that was truncated or overwritten is noticed, removed and
made anew.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from graft.zoo.errors import ConfigError
from graft.zoo.files import flock, leases, marks
from graft.zoo.files.guards import is_disk_full
from graft.zoo.hashing import hash_of
from graft.zoo.terminal import say, warn

__all__ = ["PARTS", "Store", "store_beside"]

LIMIT_BYTES = 16 * 1024**3
"""What a store keeps; beyond it the entries that were not used for longest are removed."""
LOOK_SECONDS = 0.5
"""How often to look whether what another process computes is there."""
PARTS = ".pass-"
"""How the names of folders begin in which several machines compute parts of entries."""
PARTS_KEPT_SECONDS = 7 * 24 * 3600.0
"""How long such a folder is kept in which nothing is written any more."""
ENTRY = "entry.json"
FORMAT = 2
"""Of entry.json. Entries of an older one are removed: nothing says whether they hold what was
written.
"""


class Store:
    """A folder of entries. Several processes may share it.

    Beyond `limit_bytes` (by default `LIMIT_BYTES`) the entries that were not used for longest are
    removed, but none of those `used`, the names of which several stores of one folder may share.
    """

    def __init__(
        self, folder: Path, limit_bytes: float | None = None, used: set[str] | None = None
    ):
        self.folder, self.limit_bytes = Path(folder), limit_bytes
        self._used: set[str] = set() if used is None else used
        self._verified: set[str] = set()
        self._alone = False
        self._remove_older()
        marks.sweep_unmarked(self.folder)
        for part in self.folder.glob(".part-*"):
            if marks.is_abandoned(part, part.name.split("-")[1]):
                shutil.rmtree(part, ignore_errors=True)
        for parts in self.folder.glob(f"{PARTS}*"):
            with contextlib.suppress(OSError):
                if time.time() - parts.stat().st_mtime > PARTS_KEPT_SECONDS:
                    shutil.rmtree(parts, ignore_errors=True)
        for file in self.folder.glob(".*.lock"):
            lease = leases.Lease(file)
            with contextlib.suppress(ConfigError):  # no lease, whoever put it there
                if lease.take() is None:  # of a process that was killed
                    lease.release()

    @contextlib.contextmanager
    def alone(self, keys: Iterable[str]) -> Iterator[None]:
        """Compute the entries `keys` while the block runs, and nobody else; waits while another
        process does so, after which they may be there.

        Within such a block it does not wait again, or two processes could wait for each other: an
        entry may be computed twice then.
        """
        if self._alone:
            yield
            return
        with contextlib.ExitStack() as stack:
            for key in sorted(set(keys)):  # in the same order in every process
                stack.callback(self._wait_for(key).release)
            self._alone = True
            stack.callback(setattr, self, "_alone", False)
            yield

    def _wait_for(self, key: str) -> leases.Lease:
        lease, known = leases.Lease(self.folder / f".{key}.lock"), None
        while (holder := lease.take()) is not None:
            if holder != known:
                say(f"prefix cache: {holder} computes the same features: waiting for them")
                known = holder
            time.sleep(LOOK_SECONDS)
        return lease

    def find(self, key: str, verify: bool = False) -> tuple[Path, dict] | None:
        """The folder of the entry `key` and what was noted about it; None if it is not there or was
        damaged.

        Whoever uses what its files hold asks to `verify` them: the first time they are read and
        compared with their hashes.
        """
        folder = self.folder / key
        try:
            _refuse_pipes(folder, (ENTRY,))
            entry = json.loads((folder / ENTRY).read_text(encoding="utf-8"))
            _refuse_pipes(folder, entry["sizes"])
            facts = entry["facts"]
            intact = entry["hash"] == hash_of(entry["sizes"], entry["hashes"], facts)
            intact = intact and all(
                (folder / name).stat().st_size == size for name, size in entry["sizes"].items()
            )
            if intact and verify and key not in self._verified:
                intact = all(
                    _hash_of_file(folder / name) == known for name, known in entry["hashes"].items()
                )
        except FileNotFoundError:
            if not folder.exists():
                return None
            intact = False
        except Exception:  # damaged content shows in any exception
            intact = False
        if not intact:
            warn(f"the cache entry '{folder}' is damaged: it is made anew")
            shutil.rmtree(folder, ignore_errors=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(folder / ENTRY)
        self._used.add(key)
        if verify:
            self._verified.add(key)
        return folder, facts

    @contextlib.contextmanager
    def add(self, key: str) -> Iterator[tuple[Path, dict]]:
        """Yield an empty folder to write files into and a dict for facts; on success they become
        the entry `key`.

        Raises:
            ConfigError: the disk is full.
        """
        try:
            flock.resolve_links(self.folder).mkdir(parents=True, exist_ok=True)
            facts: dict = {}
            with marks.marked_folder(f".part-{flock.machine_id()}-", self.folder) as part:
                yield part, facts
                (part / ENTRY).write_text(json.dumps(_described(part, facts)), encoding="utf-8")
                with contextlib.suppress(OSError):  # another process was faster
                    os.replace(part, self.folder / key)
        except Exception as error:
            if not is_disk_full(error):
                raise
            raise ConfigError(
                f"no space left on the disk for the cache in '{self.folder}': free some space, "
                "delete that folder, or pass "
                "--cache off"
            ) from error
        self._used.add(key)
        self._evict()

    def free_bytes(self) -> int:
        """The space left on the disk."""
        existing = next(
            folder for folder in (self.folder, *self.folder.absolute().parents) if folder.exists()
        )
        return shutil.disk_usage(existing).free

    def _remove_older(self) -> None:
        """Remove the entries that an older Graft wrote, and say how much that was."""
        removed = 0
        for file in self.folder.glob(f"*/{ENTRY}"):
            if not file.is_file():  # whoever reads a pipe waits for ever
                continue
            try:
                entry = json.loads(file.read_text(encoding="utf-8"))
                older = "sizes" in entry and entry.get("format", 1) < FORMAT
            except Exception:  # damaged: whoever looks for it says so
                continue
            if older:
                with contextlib.suppress(OSError):
                    removed += sum(part.stat().st_size for part in file.parent.iterdir())
                shutil.rmtree(file.parent, ignore_errors=True)
        if removed:
            say(
                f"prefix cache: {removed / 1e9:.2f} GB that an older Graft kept in '{self.folder}' "
                "cannot be used: removed"
            )

    def _evict(self) -> None:
        entries = []
        for path in self.folder.glob(f"[!.]*/{ENTRY}"):
            with contextlib.suppress(OSError):
                entries.append(
                    (
                        path.stat().st_mtime,
                        path.parent,
                        sum(f.stat().st_size for f in path.parent.iterdir()),
                    )
                )
        limit = LIMIT_BYTES if self.limit_bytes is None else self.limit_bytes
        total = sum(size for _, _, size in entries)
        for _, folder, size in sorted(entries, key=lambda entry: entry[0]):
            if total > limit and folder.name not in self._used:
                shutil.rmtree(folder, ignore_errors=True)
                total -= size


def store_beside(out: Path, mode: str = "auto") -> Store | None:
    """The cache that all runs of one folder share; None where its `mode` is off. What this process
    uses of it, through whichever store, is not removed by this process.
    """
    if mode == "off":
        return None
    folder = Path(out).parent / ".graft-cache"
    return Store(folder, used=_used_by_this_process(folder.absolute()))


@functools.cache
def _used_by_this_process(folder: Path) -> set[str]:
    return set()


def _described(folder: Path, facts: dict) -> dict:
    """The content of entry.json for the files in `folder`."""
    files = sorted(path for path in folder.iterdir() if path.name != ENTRY)
    sizes = {path.name: path.stat().st_size for path in files}
    hashes = {path.name: _hash_of_file(path) for path in files}
    facts = json.loads(json.dumps(facts))  # as they will be read
    return {
        "format": FORMAT,
        "sizes": sizes,
        "hashes": hashes,
        "facts": facts,
        "hash": hash_of(sizes, hashes, facts),
    }


def _refuse_pipes(folder: Path, names: Iterable[str]) -> None:
    """Refuse what is there but is no file: whoever reads a pipe waits for ever.

    Raises:
        ValueError: one of the `names` in `folder` is such.
    """
    for name in names:
        if (folder / name).exists() and not (folder / name).is_file():
            raise ValueError(f"{name} is no file")


def _hash_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
