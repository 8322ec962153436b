"""Data of many files: the shards of a folder, of `train-{0000..0009}.tar` or of `*.parquet`, by
split.
"""

import glob
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from graft.recipes.data.folders.image_files import direct_images, is_hidden, visible_folders
from graft.recipes.data.folders.layout import split_names
from graft.recipes.data.reading import Tally
from graft.recipes.data.tables.columns import TableRow
from graft.recipes.data.tables.rows import CONTAINERS, read_rows
from graft.zoo.errors import DataError

__all__ = ["Part", "matching_files", "part_rows", "parts_of_folder", "parts_of_pattern"]

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST_FILES = 100_000
NUMBERS = re.compile(r"[-_.]?\d+(-of-\d+)?$")
"""Which one of several files it is, at the end of its name."""
INNER = "data"
"""The folder in which Hugging Face's data sets keep their files."""


@dataclass(frozen=True)
class Part:
    """One of the files of a data source.

    Attributes:
        path: the file.
        split: that its name says; "" where it says none.
        of_many: whether there are others.
    """

    path: Path
    split: str = ""
    of_many: bool = False

    def name_of(self, row: TableRow) -> str:
        """What a row is called in the whole source."""
        return f"{self.path.name} {row.place}" if self.of_many else row.place


def part_rows(
    part: Part, columns: Sequence[str], tally: Tally, image_column: str | None = None
) -> Iterator[TableRow]:
    """The rows of a part, which know their split; see `rows.read_rows`.

    Raises:
        DataError: as `read_rows` does; or a row says that it is of another split than its file.
    """
    for row in read_rows(part.path, columns, tally, image_column):
        if part.split:
            own = str(row.get("split") or part.split).strip().lower()
            if split_names([own])[own] != part.split:
                raise row.error(
                    f"the column 'split' says {own}, the name of the file {part.split}: remove "
                    "the column, or give the file alone"
                )
            row["split"] = part.split
        yield row


def parts_of_folder(folder: Path, tally: Tally) -> list[Part] | None:
    """The Parquet, Arrow or tar files of a folder, or of `data` in it; None: it holds none, or
    folders of images too.

    Args:
        folder: where to look.
        tally: counts what stands beside them.

    Raises:
        DataError: the names of some say a split, those of others none.
    """
    if sum(map(_holds_images, visible_folders(folder))) > 1:
        return None  # class folders, beside which a tar may lie
    for place in (folder, folder / INNER):
        children = _children(place)
        files = [child for child in children if _is_container(child)]
        if files:
            beside = [child for child in _children(folder) if child != place] + children
            for other in dict.fromkeys(beside):
                if other not in files and other.is_file():
                    tally.leave(other.suffix.lower() or "without an ending", other.name)
                elif other not in files:
                    tally.leave("folders beside files of data", other.name)
            return _parts(files, folder)
    return None


def parts_of_pattern(spec: str) -> list[Part] | None:
    """The files that a name with `{0000..0009}` or `*` stands for; None: it is no such name.

    Raises:
        DataError: there are none, one of them is missing, or of another kind.
    """
    files = matching_files(spec)
    if files is None:
        return None
    strange = next((file for file in files if not _is_container(file)), None)
    if strange is not None:
        why = "there is no file" if not strange.exists() else "expected Parquet, Arrow or tar:"
        raise DataError(f"{why} '{strange}', which '{spec}' stands for")
    return _parts(files, Path(spec))


def matching_files(spec: str) -> list[Path] | None:
    """The files that a name with `{0000..0009}` or `*` stands for; None: it is no such name.

    Raises:
        DataError: there are none, or too many.
    """
    path = str(Path(spec).expanduser())
    if Path(path).exists():
        return None
    if RANGE.search(path):
        return [Path(name) for name in _expanded(path)]
    if "*" not in path or not path.lower().endswith(CONTAINERS):
        return None
    found = sorted(Path(name) for name in glob.glob(path))
    if not found:
        raise DataError(f"there is no file '{spec}': check the path")
    return found


def _expanded(path: str) -> list[str]:
    pieces, last, count = [], 0, 1
    for match in RANGE.finditer(path):
        low, high = match.groups()
        count *= max(0, int(high) - int(low) + 1)
        if not 0 < count <= MOST_FILES:
            raise DataError(
                f"'{path}' stands for {count:,} files: expected {{FIRST..LAST}}, the smaller "
                "number first"
            )
        numbers = [f"{i:0{len(low)}}" for i in range(int(low), int(high) + 1)]
        pieces += [[path[last : match.start()]], numbers]
        last = match.end()
    return ["".join(parts) for parts in itertools.product(*pieces, [path[last:]])]


def _children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [child for child in sorted(folder.iterdir()) if not is_hidden(child.name)]


def _holds_images(folder: Path) -> bool:
    return any(any(direct_images(place)) for place in (folder, *visible_folders(folder)))


def _is_container(path: Path) -> bool:
    return path.suffix.lower() in CONTAINERS and path.is_file()


def _parts(files: Sequence[Path], place: Path) -> list[Part]:
    stems = [NUMBERS.sub("", file.stem) or file.stem for file in files]
    by_name = split_names(list(dict.fromkeys(stems)))
    parts = [
        Part(file, by_name[stem] or "", len(files) > 1)
        for file, stem in zip(files, stems, strict=True)
    ]
    named = next((part for part in parts if part.split), None)
    bare = next((part for part in parts if not part.split), None)
    if named is not None and bare is not None:
        raise DataError(
            f"'{place}' holds '{named.path.name}', whose name says a split, and "
            f"'{bare.path.name}', whose name says none: call all of them by their splits, as "
            "train-0000.tar, or none"
        )
    return parts
