"""Average precision of boxes by the rules of COCO (Lin et al. 2014, arXiv:1405.0312), under any
weighting of the images. numpy alone.

Figures are those of `pycocotools` (a test compares): IoU thresholds .50 to .95, 101 recall points,
the 100 highest scores of a label in an image, crowd regions and boxes of another size ignored.
Detections are matched once, as an image is added; what follows, resamples too, only counts. An
image that a resample draws twice has each of its detections counted twice in one place.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from graft.zoo.errors import DataError
from graft.zoo.heads.dense.matching import (
    AREAS,
    IOU_THRESHOLDS,
    Detections,
    Matches,
    TrueBoxes,
    match_detections,
)
from graft.zoo.heads.scores import Score

__all__ = [
    "MAP",
    "MAP50",
    "MAP75",
    "MAP_LARGE",
    "MAP_MEDIUM",
    "MAP_SMALL",
    "DetectionFigure",
    "DetectionMeter",
    "PrecisionRecall",
]

RECALL_POINTS = np.linspace(0.0, 1.0, 101)
LEFT_OUT_TOGETHER = 256
"""Rows of weights that the jackknife works on at a time."""


class DetectionFigure(NamedTuple):
    """One of the figures of COCO.

    Attributes:
        name: in words.
        key: in JSON.
        thresholds: over which of the IoU thresholds it is averaged.
        size: of the objects: all, small, medium or large.
    """

    name: str
    key: str
    thresholds: slice
    size: str


MAP = DetectionFigure("mAP50:95", "map50_95", slice(None), "all")
MAP50 = DetectionFigure("mAP50", "map50", slice(0, 1), "all")
MAP75 = DetectionFigure("mAP75", "map75", slice(5, 6), "all")
MAP_SMALL = DetectionFigure("mAP50:95 of small objects", "map_small", slice(None), "small")
MAP_MEDIUM = DetectionFigure("mAP50:95 of medium objects", "map_medium", slice(None), "medium")
MAP_LARGE = DetectionFigure("mAP50:95 of large objects", "map_large", slice(None), "large")


class PrecisionRecall(NamedTuple):
    """Precision against recall of one label.

    Attributes:
        recall: 0, 0.01 ... 1, `(101,)`.
        precision: the highest at this recall or a larger one, `(101,)`; 0 where it is not reached.
            Their mean is the average precision.
        scores: the score down to which detections must be taken to reach it, `(101,)`; NaN where it
            is not reached.
    """

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray


class DetectionMeter:
    """Judges the boxes of many images, one after the other.

    Args:
        labels: how many labels there are.
    """

    def __init__(self, labels: int) -> None:
        self._images = 0
        self._matches: list[list[tuple[int, Matches]]] = [[] for _ in range(labels)]

    def add(self, predicted: Detections, truth: TrueBoxes) -> None:
        """Match the detections of the next image.

        Raises:
            DataError: a label is none of those that there are.
        """
        for labels, said in ((predicted.labels, "a detection"), (truth.labels, "a box")):
            unknown = labels[(labels < 0) | (labels >= len(self._matches))]
            if len(unknown):
                raise DataError(
                    f"{said} of image {self._images} has label {unknown[0]}, but labels are 0 to "
                    f"{len(self._matches) - 1}: number them in the order of the list of labels"
                )
        for label in np.union1d(predicted.labels, truth.labels).astype(int):
            found = Detections(*(part[predicted.labels == label] for part in predicted))
            there = TrueBoxes(*(part[truth.labels == label] for part in truth))
            self._matches[label].append((self._images, match_detections(found, there)))
        self._images += 1

    def score(self, figure: DetectionFigure = MAP) -> Score:
        """The figure of all images that were added: the mean over labels, of which there is an
        object of that size. An image is an example, a label a column.
        """
        columns = [self._ranked(label, figure) for label in range(len(self._matches))]
        return Score(figure.name, figure.key, self._images, columns)

    def curve(self, label: int, figure: DetectionFigure = MAP50) -> PrecisionRecall | None:
        """Precision against recall of a label, at the lowest IoU threshold of `figure`. None: there
        is no object to find.
        """
        return self._ranked(label, figure).curve()

    def _ranked(self, label: int, figure: DetectionFigure) -> "_Ranked":
        """The detections of all images by falling score; of equal scores those of the earlier image
        come first.
        """
        place = list(AREAS).index(figure.size)
        matches = [match for _, match in self._matches[label]]
        concerned = np.array([image for image, _ in self._matches[label]], int)
        wanted = np.zeros(self._images)
        wanted[concerned] = [match.wanted[place] for match in matches]
        scores = np.concatenate([np.zeros(0), *(match.scores for match in matches)])
        images = np.repeat(concerned, [len(match.scores) for match in matches])
        order = np.argsort(-scores, kind="stable")
        empty = np.zeros((len(IOU_THRESHOLDS), 0), bool)
        hits = np.concatenate([empty, *(match.hits[place] for match in matches)], -1)
        ignored = np.concatenate([empty, *(match.ignored[place] for match in matches)], -1)
        return _Ranked(
            scores[order],
            images[order],
            hits[figure.thresholds, order],
            ignored[figure.thresholds, order],
            wanted,
        )


@dataclass(frozen=True)
class _Ranked:
    """Detections of one label in all images, by falling score: a column of a `Score`.

    Attributes:
        scores: `(detections,)`.
        images: in which image each of them is, `(detections,)`.
        hits, ignored: bool `(thresholds, detections)`.
        wanted: how many objects each image has that count, `(images,)`.
    """

    scores: np.ndarray
    images: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    wanted: np.ndarray

    def under(self, weights: np.ndarray) -> np.ndarray:
        """Weights of the images `(b, n)` -> average precision, the mean over thresholds, `(b,)`;
        NaN where there is no object to find.
        """
        wanted = weights @ self.wanted
        areas = [
            self._area(weights, wanted, hits, ignored)
            for hits, ignored in zip(self.hits, self.ignored, strict=True)
        ]
        return np.where(wanted > 0, np.mean(areas, 0), np.nan)

    def without(self) -> np.ndarray:
        """That of all images but one, `(n,)`; only images with this label are counted anew."""
        count = len(self.wanted)
        found = np.repeat(self.under(np.ones((1, count))), count)
        concerned = np.union1d(self.images, np.flatnonzero(self.wanted))
        for start in range(0, len(concerned), LEFT_OUT_TOGETHER):
            part = concerned[start : start + LEFT_OUT_TOGETHER]
            found[part] = self.under(1.0 - (part[:, None] == np.arange(count)))
        return found

    def curve(self) -> PrecisionRecall | None:
        """At the first threshold."""
        wanted = self.wanted.sum()
        if not wanted:
            return None
        counted = ~self.ignored[0]
        hits = np.cumsum(self.hits[0, counted])
        highest = _highest_behind(hits / np.arange(1, len(hits) + 1))
        places = np.searchsorted(hits / wanted, RECALL_POINTS)
        reached = places < len(hits)
        precision, scores = np.zeros(len(places)), np.full(len(places), np.nan)
        precision[reached] = highest[places[reached]]
        scores[reached] = self.scores[counted][places[reached]]
        return PrecisionRecall(RECALL_POINTS, precision, scores)

    def _area(
        self, weights: np.ndarray, wanted: np.ndarray, hits: np.ndarray, ignored: np.ndarray
    ) -> np.ndarray:
        """Average precision at one threshold, `(b,)`.

        Recall rises at hits alone and precision is highest there, so that nothing else need be
        looked at: each hit adds the recall points which it is the first to reach, times the highest
        precision from there on.
        """
        # Behind the last hit nothing changes the area.
        end = np.flatnonzero(hits)[-1] + 1 if hits.any() else 0
        counted = np.flatnonzero(~ignored[:end])
        places = np.flatnonzero(hits[counted])
        drawn = weights[:, self.images[counted]]
        right = np.cumsum(drawn[:, places], -1)
        called = np.cumsum(drawn, -1)[:, places]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(called > 0, right / called, 0.0)
            recall = np.where(wanted[:, None] > 0, right / wanted[:, None], 0.0)
        reached = np.searchsorted(RECALL_POINTS, recall, side="right")
        # A hit of an image that was not drawn reaches nothing, the recall point 0 included.
        reached = np.where(right > 0, reached, 0)
        gained = np.diff(reached, prepend=0, axis=-1)
        return (_highest_behind(precision) * gained).sum(-1) / len(RECALL_POINTS)


def _highest_behind(values: np.ndarray) -> np.ndarray:
    """The highest of each value and those behind it, along the last axis."""
    return np.flip(np.maximum.accumulate(np.flip(values, -1), -1), -1)
