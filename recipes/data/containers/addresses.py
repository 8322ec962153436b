"""Data at an address: fetched once, by fsspec, into a folder of this user, and read from there.

FOLDER/HASH/NAME   what was fetched; of a zip archive what it holds. HASH is of the address and of
                   what the server says of its content (size, ETag, time). FOLDER is GRAFT_CACHE,
                   or graft/data in the user's cache folder.
"""

import asyncio
import contextlib
import functools
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from graft.recipes.data.folders.image_files import is_hidden
from graft.recipes.data.tables.rows import SUFFIXES
from graft.zoo.errors import ConfigError, DataError, GraftError
from graft.zoo.files.archives import opened_archive
from graft.zoo.files.staging import staged_folder
from graft.zoo.hashing import hash_of
from graft.zoo.terminal import say

__all__ = ["fetched", "is_address"]

LIMIT_SECONDS = 30.0
"""How long a server may be silent."""
IDENTITY = ("size", "ETag", "etag", "mtime", "LastModified", "created", "CRC", "md5Hash", "sha256")
"""What file systems call that by which a content is known again."""
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http"}
"""Protocol -> our extra that brings its package."""
REFUSED = (401, 403, 407)
MISSING = (404, 410)


def is_address(spec: str) -> bool:
    """Whether `spec` is an address, as `https://...` or `zip://...::file.zip`."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", spec) is not None


@functools.cache
def fetched(spec: str) -> Path:
    """The file or folder here that holds what lies at the address `spec`; of a zip archive the
    folder, or the one table, in it.

    Raises:
        DataError: there is nothing, or what came is not whole.
        ConfigError: a package is absent, the server is silent or refuses.
    """
    import fsspec

    with _one_line(spec):
        system, path = fsspec.core.url_to_fs(spec, **_options(spec))
        is_web = spec.split("://")[0].lower() in ("http", "https")
        is_folder = not is_web and system.isdir(path)
        info = {} if is_folder else system.info(path)
        known = {key: str(info[key]) for key in IDENTITY if info.get(key) is not None}
        parts = [system.checksum(path)] if is_folder and not known else []
        target = _cache_folder() / hash_of(spec, known, [str(part) for part in parts])
        name = _name_of(path)
        if not known or not target.is_dir():
            _fetch(system, path, target / name, info.get("size"))
    return _opened(target / name)


def _fetch(system: Any, path: str, target: Path, size: int | None) -> None:
    """Copy a file or folder to `target`, whose folder appears whole or not at all."""
    say(f"fetching '{target.name}'" + (f" ({size / 1e6:,.1f} MB)" if size else ""))
    with staged_folder(target.parent, overwrite=True) as staging:
        place = staging / target.name
        if size is None and system.isdir(path):
            system.get(path, str(place), recursive=True)
            return
        system.get_file(path, str(place))
        if size is not None and place.stat().st_size != size:
            raise DataError(
                f"'{path}' ended after {place.stat().st_size:,} of {size:,} bytes: try again"
            )
        if place.suffix.lower() == ".zip":
            archive = place.rename(staging / "archive")
            with opened_archive(archive) as opened:
                opened.extractall(place)
            archive.unlink()


def _opened(place: Path) -> Path:
    """What is to be read: of a folder that holds one folder or one table alone, that."""
    while place.is_dir():
        children = [child for child in sorted(place.iterdir()) if not is_hidden(child.name)]
        folders = [child for child in children if child.is_dir()]
        tables = [child for child in children if child.suffix.lower() in SUFFIXES]
        if len(children) == 1 and folders:
            place = folders[0]
        elif len(tables) == 1 and len(folders) <= 1:
            return tables[0]
        else:
            return place
    return place


def _name_of(path: str) -> str:
    name = unquote(Path(urlsplit(path).path.rstrip("/")).name)
    return re.sub(r"[^\w.{}-]", "_", name) or "data"


def _cache_folder() -> Path:
    own = os.environ.get("GRAFT_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graft" / "data"


def _options(spec: str) -> Mapping[str, Any]:
    """How long servers may be silent, by those protocols that `spec` names."""
    options: dict[str, Any] = {
        "s3": {
            "config_kwargs": {
                "connect_timeout": LIMIT_SECONDS,
                "read_timeout": LIMIT_SECONDS,
                "retries": {"max_attempts": 2},
            }
        }
    }
    protocols = re.findall(r"(\w+)://", spec)
    with contextlib.suppress(ImportError):
        import aiohttp

        limit = aiohttp.ClientTimeout(None, sock_connect=LIMIT_SECONDS, sock_read=LIMIT_SECONDS)
        options["http"] = options["https"] = {"client_kwargs": {"timeout": limit}}
    return {name: given for name, given in options.items() if name in protocols}


@contextlib.contextmanager
def _one_line(spec: str) -> Iterator[None]:
    """Whatever file systems raise becomes one line that says what to do."""
    try:
        yield
    except GraftError:
        raise
    except ImportError as error:
        extra = next((EXTRAS[p] for p in re.findall(r"(\w+)://", spec) if p in EXTRAS), None)
        hint = f"pip install 'graft-zoo[{extra}]'" if extra else f"install it ({error})"
        raise ConfigError(f"'{spec}' needs a package that is not installed: {hint}") from error
    # fsspec and the libraries below it have no error in common.
    except Exception as error:
        raise _explained(spec, error) from error


def _explained(spec: str, error: Exception) -> GraftError:
    chain = list(_causes(error))
    codes = [getattr(e, "status", None) for e in chain]
    status = next((code for code in codes if isinstance(code, int)), None)
    names = " ".join(type(e).__name__ for e in chain)
    if any(isinstance(e, asyncio.TimeoutError | TimeoutError) for e in chain) or "Timeout" in names:
        return ConfigError(
            f"'{spec}': the server was silent for {LIMIT_SECONDS:g} s: try again, or fetch the "
            "file by other means and give its path"
        )
    if "Credentials" in names or "PermissionError" in names or status in REFUSED:
        return ConfigError(
            f"'{spec}' may not be read without credentials{f' (HTTP {status})' if status else ''}: "
            "set those that its storage asks for, or fetch the file and give its path"
        )
    if "Protocol not known" in str(error):
        return ConfigError(f"'{spec}': no package here knows such addresses ({error})")
    if isinstance(error, zipfile.BadZipFile):
        return DataError(f"'{spec}' is no whole zip archive ({error}): fetch it again")
    if status in MISSING or (
        isinstance(error, FileNotFoundError)
        and status is None
        and not any("Connect" in type(e).__name__ for e in chain)
    ):
        return DataError(f"there is nothing at '{spec}': check the address")
    cause = chain[-1]
    why = f"HTTP {status}" if status else f"{type(cause).__name__}: {cause}"
    return ConfigError(f"'{spec}' cannot be fetched ({why}): check the address and the network")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
