"""A class for each pixel: the task of segmentation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from graft.recipes.codecs.asked import Shown
from graft.recipes.codecs.pixels import map_in_order
from graft.recipes.codecs.targets import Moves, Target
from graft.recipes.data.records import Record, Source
from graft.recipes.data.scenes.masks.mask_files import BACKGROUND, MaskFile
from graft.recipes.tasks.dense.chunks import chunks, never_found, number
from graft.recipes.tasks.dense.drawing import draw_mask
from graft.recipes.tasks.labels import check_probabilities
from graft.recipes.tasks.task import Task
from graft.zoo.errors import DataError
from graft.zoo.fits import ImageShape
from graft.zoo.heads import heads
from graft.zoo.heads.kind import Kind
from graft.zoo.heads.masks import mask_scores
from graft.zoo.heads.masks.mask_scores import IGNORED
from graft.zoo.heads.masks.masks import MASKS, class_maps
from graft.zoo.heads.scores import Score

__all__ = ["MaskTask", "mask_labels"]


@dataclass(frozen=True)
class MaskTask(Task):
    """A class for each pixel of an image. Targets are uint8 `(n, height, width, 1)`."""

    kind: ClassVar[Kind] = MASKS
    moves: ClassVar[Moves] = "map"
    need: ClassVar[Literal["", "boxes", "mask"]] = "mask"
    meaning: ClassVar[str] = "a probability for each class, for each pixel"
    from_one_label: ClassVar[bool] = False
    watched: ClassVar[str] = MASKS.key

    @classmethod
    def described(cls, name: str, facts: Mapping) -> "MaskTask":
        """The task of an artifact."""
        return cls(heads.masks(facts["labels"], name=name), **cls.where(name, facts, "mask"))

    @property
    def background(self) -> int | None:
        """The class that Dice does not count."""
        return self.labels.index(BACKGROUND) if BACKGROUND in self.labels else None

    def targets(self, records: Sequence[Record], given: Any = None) -> Target:
        """The class of each pixel, at the size of the images.

        Raises:
            DataError: a record without a mask, a mask that cannot be read, or one with a class that
                the model does not know; names the record.
        """
        shape: ImageShape = given
        found = np.full((len(records), *shape[:2], 1), IGNORED, np.uint8)
        index = {label: i for i, label in enumerate(self.labels)}
        numbers: dict[tuple[str, ...], np.ndarray] = {}
        for record in records:
            labels = self._known_mask(record, index).labels
            if labels not in numbers:  # the last one is what is not known
                own = [*(index.get(label, IGNORED) for label in labels), IGNORED]
                numbers[labels] = np.array(own, np.uint8)

        def read(record: Record) -> np.ndarray:
            mask: MaskFile = record.answers[self.answer]
            return numbers[mask.labels][mask.read((shape.height, shape.width))]

        for row, pixels in zip(found, map_in_order(read, records), strict=True):
            row[..., 0] = pixels
        return found

    def _known_mask(self, record: Record, index: Mapping[str, int]) -> MaskFile:
        """The mask of a record, all of whose classes the model knows."""
        mask: MaskFile | None = record.answers.get(self.answer)
        if mask is None:
            raise DataError(f"{record.name}: it has no mask: give one, or leave the image out")
        stranger = next((label for label in mask.present if label not in index), None)
        if stranger is not None:
            raise DataError(
                f"{record.name}: the class '{stranger}' is not one of the model's {len(index)}: "
                f"{', '.join(index)}"
            )
        return mask

    def holds(self, target: Target) -> np.ndarray:
        """Which classes have a pixel, bool `(n, labels)`."""
        counts = [np.bincount(image.ravel(), minlength=IGNORED + 1) for image in target]
        return np.reshape(counts, (-1, IGNORED + 1))[:, : len(self.labels)] > 0

    def answers(self, values: np.ndarray, size: Sequence[int]) -> np.ndarray:
        """The likeliest class of each pixel, uint8 `(n, height, width)`."""
        height, width = size
        parts = [self.kept(self.kind.shipped(part, (height, width))) for part in chunks(values)]
        return np.concatenate(parts)

    def kept(self, rows: np.ndarray) -> np.ndarray:
        """The same."""
        return class_maps(rows)

    def truth(self, target: Target) -> np.ndarray:
        """The same."""
        return target[..., 0]

    def drawn(self, pixels: np.ndarray, answer: np.ndarray, size: Sequence[int]) -> np.ndarray:
        """The classes in colour."""
        return draw_mask(pixels, answer, self.background)

    def score(self, outputs: np.ndarray, target: Target) -> Score:
        """The mean IoU over classes; `outputs` as `answers` gives them."""
        return mask_scores.mean_iou(self._counts(outputs, target))

    def _counts(self, outputs: np.ndarray, target: Target) -> np.ndarray:
        return mask_scores.confusion(target[..., 0], outputs, len(self.labels))

    def _figures(self, outputs: np.ndarray, target: Target) -> dict:
        counts = self._counts(outputs, target)
        dice = mask_scores.pooled_dice(counts, self.background)
        by_image = mask_scores.mean_dice(counts, self.background)
        edges = mask_scores.boundary_f(target[..., 0], outputs, len(self.labels))
        made = [mask_scores.mean_iou(counts), dice, by_image, mask_scores.pixel_accuracy(counts)]
        return {
            "examples": len(target),
            **{score.key: number(score.value) for score in (*made, edges)},
            "per_class": _per_class(self.labels, counts),
        }

    def per_label(self, outputs: np.ndarray, target: Target) -> dict:
        """Label -> precision, recall, F1 and IoU of its pixels, and the images that show it."""
        return _per_class(self.labels, self._counts(outputs, target))

    def epoch_figures(
        self, outputs: np.ndarray, target: Target, class_weights: np.ndarray | None = None
    ) -> dict[str, float]:
        """The loss, mean IoU and Dice; `outputs` are those of the graph that trains."""
        loss, losses, counts = self.head.loss(), [], []
        for truth, values in zip(chunks(target), chunks(outputs), strict=True):
            losses.append(np.asarray(loss.call(truth, values)))
            counts.append(self._counts(self.answers(values, target.shape[1:3]), truth))
        every = np.concatenate(counts)
        dice = mask_scores.pooled_dice(every, self.background)
        return {
            "loss": float(np.concatenate(losses).mean()),
            self.kind.key: mask_scores.mean_iou(every).value,
            dice.key: dice.value,
        }

    def said(self, row: np.ndarray, shown: Shown) -> dict:
        """What share of the image each class covers."""
        check_probabilities(row)
        counts = np.bincount(class_maps(row).ravel(), minlength=len(self.labels))
        shares = counts / counts.sum()
        return {"covers": dict(zip(self.labels, map(float, shares), strict=True))}

    def cells(self, said: Mapping, top: int) -> list[str]:
        """The classes that cover most, without the background."""
        found = [(share, label) for label, share in said["covers"].items() if label != BACKGROUND]
        best = sorted(found, key=lambda pair: -pair[0])[:top]
        return [f"{label} {share:.1%}" for share, label in best]

    def columns(self, said: Mapping) -> dict[str, Any]:
        """A column a class."""
        return {f"covers_{label}": share for label, share in said["covers"].items()}

    def concern(self, figures: Mapping) -> str | None:
        """Classes that were never found."""
        return never_found(figures["per_class"], "examples")


def mask_labels(source: Source) -> tuple[str, ...]:
    """The classes of a source of masks: the background first, where its masks have one.

    Raises:
        DataError: there is a single class.
    """
    masks = [record.answers.get("mask") for part in source.splits.values() for record in part]
    ground = any(BACKGROUND in mask.labels for mask in masks if mask is not None)
    labels = tuple(label for label in source.labels if label != BACKGROUND)
    found = (BACKGROUND, *labels) if ground or BACKGROUND in source.labels else labels
    if len(found) < 2:
        raise DataError(
            f"'{source.name}': all masks show one class, {', '.join(found)}: there is nothing to "
            "tell apart"
        )
    return found


def _per_class(labels: Sequence[str], counts: np.ndarray) -> dict:
    """Of pixels of all images together; 0 where a class was neither there nor given."""
    there, given = counts.sum(2), counts.sum(1)
    rows = {}
    for place, label in enumerate(labels):
        hits = float(counts[:, place, place].sum())
        own, all_ = float(there[:, place].sum()), float(given[:, place].sum())
        rows[label] = {
            "precision": hits / all_ if all_ else 0.0,
            "recall": hits / own if own else 0.0,
            "f1": 2 * hits / (own + all_) if own + all_ else 0.0,
            "iou": hits / (own + all_ - hits) if own + all_ else 0.0,
            "examples": int((there[:, place] > 0).sum()),
        }
    return rows
