"""Images: every one is decoded once, into one uint8 array a split. No TensorFlow until they are
read.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graft.recipes.codecs.asked import Fed, Picture, Shown
from graft.recipes.codecs.decoded import DecodedImages
from graft.recipes.codecs.examples import Reader
from graft.recipes.codecs.pixels import decode_all, take_pixels
from graft.recipes.codecs.stored_pixels import StoredPixels
from graft.recipes.codecs.targets import (
    Moves,
    Target,
    Targets,
    known_rows,
    take_targets,
    target_reader,
)
from graft.recipes.data.image_sizes import size_as_it_came
from graft.recipes.data.records import Example, Record, TaskRow
from graft.recipes.data.traces import pixel_traces
from graft.zoo.contents import Packed
from graft.zoo.errors import DataError
from graft.zoo.fits import STRETCH, Fit, ImageShape, ImageSize
from graft.zoo.hashing import hash_of
from graft.zoo.image_modes import as_pixels
from graft.zoo.terminal import warn
from graft.zoo.vision import decode_image, describe_decoding

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["ImageCodec", "Images"]


@dataclass(frozen=True)
class Images:
    """The images of one split; see `examples.Examples`.

    Attributes:
        pixels: uint8 `(n, height, width, channels)`: an array, or as they lie in the store.
        targets: what is to be learned, by task.
        names: what to call each image.
        skipped: one message for each file that could not be read.
        known_by: by which each image is known again, whatever it is called, by kind; empty for
            images that were made, not read.
        moving: tasks whose targets move with the images, and what these are.
    """

    pixels: np.ndarray | StoredPixels
    targets: Targets
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    known_by: Mapping[str, np.ndarray] = field(default_factory=dict)
    moving: Mapping[str, Moves] = field(default_factory=dict)

    positions: ClassVar[None] = None
    pads: ClassVar[Mapping[str, int]] = {}
    augmented: ClassVar[bool] = False

    @property
    def row_bytes(self) -> int | None:
        """What reading an image takes; None: they are in memory, or would fit."""
        if isinstance(self.pixels, StoredPixels) and not self.pixels.fits_memory:
            return self.pixels.row_bytes
        return None

    def __len__(self) -> int:
        return len(self.pixels)

    @functools.cached_property
    def digest(self) -> str:
        """A hash of all pixels, in their order."""
        pixels = self.pixels
        return pixels.digest if isinstance(pixels, StoredPixels) else hash_of(pixels)

    def traces(self) -> Mapping[str, np.ndarray]:
        """By which each image is known again."""
        return self.known_by or pixel_traces(np.asarray(self.pixels))

    def take(self, rows: Sequence[int] | np.ndarray) -> "Images":
        """Some of them, in this order; what is too large for memory goes into a file again."""
        if len(rows) == len(self) and (np.diff(rows) == 1).all():
            return self
        names = tuple(self.names[i] for i in rows)
        known_by = {kind: part[rows] for kind, part in self.known_by.items()}
        targets = take_targets(self.targets, rows)
        pixels = take_pixels(self.pixels, rows)
        return Images(pixels, targets, names, self.skipped, known_by, self.moving)

    def stretch(self, part: slice) -> "Images":
        """A stretch of them, which shares their memory."""
        targets = {name: target[part] for name, target in self.targets.items()}
        stored = isinstance(self.pixels, StoredPixels)
        pixels = self.pixels.take(np.arange(len(self))[part]) if stored else self.pixels[part]
        return Images(pixels, targets, self.names[part], moving=self.moving)

    def reader(self, seed: int) -> Reader:
        """What reads pixels and targets of a batch; the seed changes nothing."""
        pixels, targets = self.input_reader(), target_reader(self.targets)
        return lambda step, indices: (pixels(indices), targets(indices))

    def input_reader(self) -> Callable[["tf.Tensor"], "tf.Tensor"]:
        """indices -> pixels, float32 `(b, h, w, channels)` in [0, 255]. What is stored, or a
        memory-mapped array, is read batch by batch, never as a whole.
        """
        import tensorflow as tf

        if not isinstance(self.pixels, np.memmap | StoredPixels):
            held = tf.constant(self.pixels)
            return lambda indices: tf.cast(tf.gather(held, indices), tf.float32)

        def gather(indices: "tf.Tensor") -> "tf.Tensor":
            pixels = tf.numpy_function(
                lambda i: self.pixels[i], [indices], tf.uint8, stateful=False
            )
            pixels.set_shape((None, *self.pixels.shape[1:]))
            return tf.cast(pixels, tf.float32)

        return gather


@dataclass(frozen=True)
class ImageCodec:
    """Image files or pixels -> `Images` of one size.

    Attributes:
        image_size: of the images, as `ImageShape.of` takes it: a shape where they are not RGB.
        fit: how an image of other proportions is fitted.
        skip_bad: whether files that cannot be read are left out.
        decoded: where files are decoded once for all; None: each time.
        memory_bytes: what images may take in memory that are decoded each time; None: the default.
    """

    image_size: ImageSize
    skip_bad: bool = False
    decoded: DecodedImages | None = None
    fit: Fit = STRETCH
    memory_bytes: int | None = None

    modality: ClassVar[str] = "image"
    noun: ClassVar[str] = "image"
    input_range: ClassVar[tuple[float, float] | None] = (0, 255)
    same_as: ClassVar[str] = "looks the same as"
    one_label: ClassVar[bool] = True

    @classmethod
    def described(cls, content: Mapping, skip_bad: bool = True) -> "ImageCodec":
        """The codec that preprocessing.json describes."""
        shape = ImageShape.of(content["image_size"], content.get("channels", 3))
        return cls(shape, skip_bad, fit=content.get("fit", STRETCH))

    @property
    def shape(self) -> ImageShape:
        """That of each image."""
        return ImageShape.of(self.image_size)

    @property
    def facts(self) -> dict:
        """What run.json says of it."""
        return {"image_size": self.shape.size, "decode": describe_decoding(self.fit, self.shape)}

    @property
    def attached(self) -> dict[str, str]:
        """The text files that belong to it, by name."""
        return {}

    def describe(self, images: Images | None = None) -> dict:
        """How an image goes into the model, for preprocessing.json."""
        return {"modality": self.modality, **self.facts["decode"], "image_size": self.shape.size}

    def facts_of(self, images: Images) -> dict:
        """What run.json says of a split beside its size."""
        return {}

    def notes(self, parts: Mapping[str, Images]) -> list[str]:
        """What is to be said of the splits before a training."""
        return []

    def doubts(self, images: Images) -> list[str]:
        """What is to be said of examples that a model is measured on."""
        return []

    def only(self, task: Any, records: Sequence[Record], images: Images) -> Images:
        """The images whose answer to one task is known, with this target alone. Raises DataError:
        there are none.
        """
        target = images.targets[task.name]
        rows = np.flatnonzero(known_rows(target))
        if not len(rows):
            raise DataError(f"no image has an answer to task '{task.name}': it cannot be trained")
        moving = {name: kind for name, kind in images.moving.items() if name == task.name}
        return replace(images, targets={task.name: target}, moving=moving).take(rows)

    def encode(
        self, records: Sequence[Example | TaskRow], tasks: Sequence[Any], title: str = "decode"
    ) -> Images:
        """Decode all `records`, in parallel, with a progress bar called `title`.

        Args:
            records: of which only `image`, `name`, `digest` and what the tasks ask for are looked
                at.
            tasks: what is to be learned; see `recipes/tasks/task.py`.

        Raises:
            DataError: an unreadable image (the first is named, the others counted), unless
                `skip_bad`; an answer that a task does not know; or nothing left.
        """
        targets = {task.name: task.targets(records, self.shape) for task in tasks}
        pixels, traces, bad = self._decoded(records, title)
        good = self._good(bad, len(records), title)
        return Images(
            pixels,
            take_targets(targets, good),
            tuple(records[i].name for i in good),
            tuple(bad[i] for i in sorted(bad)),
            traces,
            {task.name: task.moves for task in tasks if task.moves},
        )

    def _decoded(
        self, records: Sequence[Example | TaskRow], title: str
    ) -> tuple[np.ndarray | StoredPixels, Mapping[str, np.ndarray], Mapping[int, str]]:
        """(pixels and traces of those that can be read, what is wrong with others by number)."""
        if self.decoded is not None and all(isinstance(r.image, Path | Packed) for r in records):
            found = self.decoded.find(records, title)
            return found.pixels, found.traces, found.bad
        # Three splits, and whoever trains on one holds it twice, as an array and as a tensor.
        most = None if self.memory_bytes is None else self.memory_bytes // 6
        return decode_all(records, self.shape, self.fit, title, most)

    def _good(self, bad: Mapping[int, str], count: int, title: str) -> list[int]:
        """The numbers of the records that could be read."""
        if bad and not self.skip_bad:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            raise DataError(f"{bad[min(bad)]}{more}: mend or remove it, or pass --skip-bad")
        good = [i for i in range(count) if i not in bad]
        if not good:
            raise DataError(f"none of the {count} images for '{title}' can be read")
        if bad:
            first = f"the first: {bad[min(bad)]}"
            warn(f"{title}: {len(bad)} of {count} images cannot be read and are left out, {first}")
        return good

    def arrays(self, images: Images, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What a run keeps of some images, by name."""
        return {"images": images.pixels[rows]}

    def inputs_of(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The inputs in what `arrays` gave."""
        return arrays["images"]

    def all_inputs(self, images: Images) -> np.ndarray:
        """What a model is fed of a split."""
        return np.asarray(images.pixels)

    def target_arrays(self, images: Images, rows: np.ndarray) -> dict[str, Target]:
        """The targets of some images, by task."""
        return {name: target[rows] for name, target in images.targets.items()}

    def originals(self, images: Images) -> None:
        """The examples as they came, where files may take them so; images go in as pixels."""

    def widened(self, target: np.ndarray, by_position: bool) -> np.ndarray:
        """The targets that a run keeps, as a model answers."""
        return target

    def batch(self, images: Images, rows: range, length: int | None = None) -> np.ndarray:
        """What an artifact is fed of some images, float32."""
        return images.pixels[rows.start : rows.stop].astype(np.float32)

    def without_padding(self, values: np.ndarray, batch: np.ndarray) -> np.ndarray:
        """The rows of an output of a batch that count: all."""
        return values

    def item(self, given: Any) -> Picture:
        """What `feed` takes of an image: a path, an array with pixels from 0 to 255, or an image of
        PIL.

        Raises:
            DataError: it cannot be read.
        """
        if hasattr(given, "__array__") and not hasattr(given, "convert"):
            given = as_pixels(given, "the image")
        return Picture(decode_image(given, self.image_size, self.fit), size_as_it_came(given))

    def feed(self, items: Sequence[Picture], length: int | None = None) -> Fed:
        """Decoded images as a batch for a model."""
        height, width = self.shape[:2]
        scales = [(own[0] / height, own[1] / width) for own in (item.size for item in items)]
        pixels = np.float32(np.stack([item.pixels for item in items]))
        return Fed(pixels, [Shown(scale=scale) for scale in scales])
