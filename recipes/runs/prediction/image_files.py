"""The images that `graft predict` is asked about: files, folders, patterns, or a list of them."""

import errno
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from graft.recipes.data.folders.image_files import image_suffixes, images_below
from graft.recipes.data.reading import Tally
from graft.recipes.runs.prediction.stdin import STDIN, BadInput, cause_of, stdin_lines

__all__ = ["image_files"]


def image_files(inputs: Sequence[str]) -> Iterator[Path | BadInput]:
    """The files of images that `inputs` name, in order: files, folders at any depth, patterns
    such as `photos/*.jpg`, and `-` for a list of any of these from stdin, one a line.
    """
    for item in inputs:
        if item == STDIN:
            for _, line in stdin_lines():
                if line.strip():
                    yield from _images_of(os.fsdecode(line))
        else:
            yield from _images_of(item)


def _images_of(item: str) -> Iterator[Path | BadInput]:
    try:
        yield from _found_images(item)
    # A name too long, a folder that may not be entered; a zero byte in a pattern.
    except (OSError, ValueError) as error:
        yield BadInput(f"'{item}' cannot be read: {cause_of(error)}")


def _found_images(item: str) -> Iterator[Path | BadInput]:
    path = Path(item)
    if _holds(path.is_dir, item):
        yield from _images_in(path)
    elif glob.has_magic(item) and not _holds(path.exists, item):
        found = sorted(glob.glob(os.path.expanduser(item), recursive=True))
        if not found:
            yield BadInput(f"nothing fits the pattern '{item}'")
        for name in found:
            # What a pattern takes in by the way is no bad input.
            if Path(name).suffix.lower() in image_suffixes() or os.path.isdir(name):
                yield from _images_of(name)
    else:
        yield path


def _holds(asked: Callable[[], bool], item: str) -> bool:
    """What `asked` says of a path; a pattern may be longer than any name.

    Raises:
        OSError: nobody can say.
    """
    try:
        return asked()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG and glob.has_magic(item):
            return False
        raise


def _images_in(folder: Path) -> Iterator[Path | BadInput]:
    tally = Tally()
    closed: list[OSError] = []
    found = images_below(folder, folder, tally, onerror=closed.append)
    yield from found
    for error in closed:
        yield BadInput(f"'{error.filename}' cannot be read: {cause_of(error)}")
    if not found and not closed:
        yield BadInput(f"the folder '{folder}' holds no images{tally.instead}")
