"""Boxes around things: the task of object detection."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from graft.recipes.codecs.asked import Shown
from graft.recipes.codecs.targets import Moves, Target
from graft.recipes.data.records import Record
from graft.recipes.data.scenes.scene import Boxes
from graft.recipes.tasks.dense.chunks import chunks, never_found, number
from graft.recipes.tasks.dense.drawing import draw_boxes
from graft.recipes.tasks.task import Task
from graft.zoo.errors import CheckFailed, DataError
from graft.zoo.fits import ImageShape
from graft.zoo.heads import heads
from graft.zoo.heads.dense.average_precision import (
    MAP,
    MAP50,
    MAP75,
    MAP_LARGE,
    MAP_MEDIUM,
    MAP_SMALL,
    DetectionMeter,
    PrecisionRecall,
)
from graft.zoo.heads.dense.box_kind import BOXES, detection_meter
from graft.zoo.heads.kind import Kind
from graft.zoo.heads.scores import Score

__all__ = ["BoxTask"]

FIGURES = (MAP50, MAP, MAP75, MAP_SMALL, MAP_MEDIUM, MAP_LARGE)
SHOWN = 0.3
"""The score from which on a box is listed."""
ANY_SIZE = (32, 32)
"""Of the images of a head that is not built."""


@dataclass(frozen=True)
class BoxTask(Task):
    """Boxes with labels. Targets are float32 `(n, most, 6)`: x0, y0, x1, y1 in pixels of the
    model's image, label, 1 for a crowd region; the label is -1 where there is no box.
    """

    kind: ClassVar[Kind] = BOXES
    moves: ClassVar[Moves] = "boxes"
    need: ClassVar[Literal["", "boxes", "mask"]] = "boxes"
    meaning: ClassVar[str] = (
        "boxes by falling score: ymin, xmin, ymax, xmax as shares of the image; the line of "
        "`labels.txt`, from 0; the score, -1 behind the last box; and how many rows there are"
    )
    from_one_label: ClassVar[bool] = False
    watched: ClassVar[str] = BOXES.key

    @classmethod
    def described(cls, name: str, facts: Mapping) -> "BoxTask":
        """The task of an artifact."""
        head = heads.boxes(facts["labels"], image_size=ANY_SIZE, name=name)
        return cls(head, **cls.where(name, facts, "boxes"))

    def targets(self, records: Sequence[Record], given: Any = None) -> Target:
        """The boxes of each image, at the size that the model takes.

        Raises:
            DataError: of a record it is not known which boxes it has, or one has a label that the
                model does not know; names the record.
        """
        shape: ImageShape = given
        index = {label: i for i, label in enumerate(self.labels)}
        rows = [self._rows(record, index, shape) for record in records]
        found = np.zeros((len(rows), max([1, *map(len, rows)]), 6), np.float32)
        found[..., 4] = -1
        for row, own in zip(found, rows, strict=True):
            row[: len(own)] = own
        return found

    def _rows(self, record: Record, index: Mapping[str, int], shape: ImageShape) -> np.ndarray:
        boxes: Boxes | None = record.answers.get(self.answer)
        if boxes is None:
            raise DataError(
                f"{record.name}: it is not known which boxes it has: annotate it, or leave it out"
            )
        stranger = next((label for label in boxes.labels if label not in index), None)
        if stranger is not None:
            raise DataError(
                f"{record.name}: the label '{stranger}' is not one of the model's {len(index)}: "
                f"{', '.join(index)}"
            )
        scene: Any = record
        height, width = (own / there for own, there in zip(shape[:2], scene.size, strict=True))
        corners = boxes.corners * np.array([width, height, width, height], np.float32)
        labels = np.array([index[label] for label in boxes.labels], np.float32)
        return np.column_stack([corners, labels, boxes.crowd.astype(np.float32)])

    def holds(self, target: Target) -> np.ndarray:
        """Which labels have a box, bool `(n, labels)`."""
        return np.stack([(target[..., 4] == i).any(1) for i in range(len(self.labels))], -1)

    def answers(self, values: np.ndarray, size: Sequence[int]) -> np.ndarray:
        """What is left after suppression, `(n, most, 6)`."""
        return self.kind.shipped(values, (size[0], size[1]))

    def truth(self, target: Target) -> np.ndarray:
        """The same: true boxes are sure."""
        sure = np.where(target[..., 4:5] < 0, -1, 1)
        return np.concatenate([target[..., :4], sure, target[..., 4:5]], -1)

    def drawn(self, pixels: np.ndarray, answer: np.ndarray, size: Sequence[int]) -> np.ndarray:
        """The boxes that are likely."""
        height, width = (own / there for own, there in zip(pixels.shape, size, strict=False))
        scale = np.array([width, height, width, height, 1, 1], np.float32)
        return draw_boxes(pixels, scale * answer[answer[:, 4] >= SHOWN], self.labels)

    def score(self, outputs: np.ndarray, target: Target) -> Score:
        """mAP50, a column a label."""
        return self._meter(outputs, target).score(MAP50)

    def _meter(self, outputs: np.ndarray, target: Target) -> DetectionMeter:
        return detection_meter(outputs, target, len(self.labels))

    def _figures(self, outputs: np.ndarray, target: Target) -> dict:
        meter = self._meter(outputs, target)
        figures = {figure.key: number(meter.score(figure).value) for figure in FIGURES}
        rows = self._per_label(meter, target)
        return {"examples": len(target), **figures, "per_class": rows}

    def per_label(self, outputs: np.ndarray, target: Target) -> dict:
        """Label -> average precision, and precision, recall and F1 at the score where F1 is best;
        the images that show it.
        """
        return self._per_label(self._meter(outputs, target), target)

    def _per_label(self, meter: DetectionMeter, target: Target) -> dict:
        at_50, whole = meter.score(MAP50).units, meter.score(MAP).units
        images, found = self.holds(target).sum(0), {}
        for i, label in enumerate(self.labels):
            found[label] = {
                **_best(meter.curve(i)),
                "map50": number(at_50[i]),
                "map50_95": number(whole[i]),
                "boxes": int((target[..., 4] == i).sum()),
                "examples": int(images[i]),
            }
        return found

    def epoch_figures(
        self, outputs: np.ndarray, target: Target, class_weights: np.ndarray | None = None
    ) -> dict[str, float]:
        """The loss and mean average precisions; `outputs` are those of the graph that trains."""
        loss = self.head.loss()
        pairs = zip(chunks(target), chunks(outputs), strict=True)
        losses = [np.asarray(loss.call(truth, values)) for truth, values in pairs]
        meter = self._meter(self.kind.shipped(outputs, ANY_SIZE), target)
        figures = {figure.key: meter.score(figure).value for figure in (MAP50, MAP)}
        return {"loss": float(np.concatenate(losses).mean()), **figures}

    def said(self, row: np.ndarray, shown: Shown) -> dict:
        """The boxes that are likely, in pixels of the image as it came, as COCO has them: x, y,
        width, height.
        """
        if not np.isfinite(row).all() or row[:, 4].max() > 1.01:
            raise CheckFailed(
                f"the model answers a score of {float(row[:, 4].max()):.3g} where one from 0 to 1 "
                "is expected: export it again"
            )
        scale = shown.scale or (1.0, 1.0)
        return {"boxes": [self._said(box, scale) for box in row if box[4] >= SHOWN]}

    def _said(self, box: np.ndarray, scale: tuple[float, float]) -> dict:
        (x0, y0, x1, y1, score, label), (down, across) = box.tolist(), scale
        corners = (x0 * across, y0 * down, (x1 - x0) * across, (y1 - y0) * down)
        return {
            "label": self.labels[int(label)],
            "score": score,
            "bbox": [round(value, 2) for value in corners],
        }

    def cells(self, said: Mapping, top: int) -> list[str]:
        """How many there are of each label."""
        counts = Counter(box["label"] for box in said["boxes"])
        return [f"{count} {label}" for label, count in counts.most_common(top)] or ["nothing"]

    def columns(self, said: Mapping) -> dict[str, Any]:
        """How many there are of each label."""
        counts = Counter(box["label"] for box in said["boxes"])
        return {f"count_{label}": counts[label] for label in self.labels}

    def concern(self, figures: Mapping) -> str | None:
        """Labels that are never found."""
        return never_found(figures["per_class"], "boxes")


def _best(curve: PrecisionRecall | None) -> dict[str, float]:
    """Precision, recall and F1 where that is best; 0 of a label that no image shows."""
    if curve is None:
        return {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    sums = np.maximum(curve.precision + curve.recall, 1e-12)
    f1 = np.where(curve.precision > 0, 2 * curve.precision * curve.recall / sums, 0.0)
    best = int(f1.argmax())
    hit = bool(f1[best])
    return {
        "precision": float(curve.precision[best]) if hit else 0.0,
        "recall": float(curve.recall[best]) if hit else 0.0,
        "f1": float(f1[best]),
    }
