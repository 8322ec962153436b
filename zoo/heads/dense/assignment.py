"""Which cell is to find which box: the cells that already do it best, by score and by overlap.

Task-aligned assignment, Feng et al. 2021, arXiv:2108.07755, section 3.3.
"""

from typing import Any, NamedTuple

from keras import ops

from graft.zoo.heads.dense.cells import Cells

__all__ = ["Assignment", "assign", "generalized_iou"]

SCORE_POWER = 1.0
"""alpha in the paper."""
OVERLAP_POWER = 6.0
"""beta in the paper."""
NEARNESS = 1e-9
"""What being near the middle of a box adds to a cell's alignment: it decides between cells that
find a box equally badly.
"""
FAR = 1e9
"""In pixels."""
SMALLEST = 1e-9
"""Against division by zero, in pixels and square pixels."""

Tensor = Any
"""A tensor of the backend, or of a graph that is being built."""


class Assignment(NamedTuple):
    """What each cell is to say.

    Attributes:
        scores: `(n, cells, labels)`, 0 to 1: how well the cell finds its box, at the box's label; 0
            elsewhere.
        boxes: the cell's box, `(n, cells, 4)`; zeros where it has none.
        positive: `(n, cells)`, 1 where the cell has a box, else 0.
        counted: `(n, cells)`, 0 where what the cell says is not judged: in a crowd region.
    """

    scores: Tensor
    boxes: Tensor
    positive: Tensor
    counted: Tensor


def assign(truth: Tensor, boxes: Tensor, scores: Tensor, cells: Cells, most: int) -> Assignment:
    """Hand out the boxes of a batch of images.

    A box gets up to `most` of the cells whose centres lie in it, more where they are equally good.
    A cell that several boxes would have goes to the one whose best cell it is, else to the one that
    it overlaps most. A box in which no centre lies gets the nearest cell, and one whose cells
    others have got the nearest that is free, so that none goes without. No gradient passes.

    Args:
        truth: float32 `(n, boxes, 6)`: x0, y0, x1, y1, index of the label, 1 for a crowd region;
            the label of padding is -1.
        boxes: as they are predicted, `(n, cells, 4)`.
        scores: as they are predicted, `(n, cells, labels)`.
        cells: of the model.
        most: how many cells a box gets.
    """
    boxes, scores = ops.stop_gradient(boxes), ops.stop_gradient(scores)
    there = ops.greater_equal(truth[..., 4], 0.0)
    is_crowd = ops.logical_and(there, ops.greater(truth[..., 5], 0.0))
    is_box = ops.logical_and(there, ops.logical_not(is_crowd))[..., None]
    # Padding has the label -1, of which the row is zeros.
    labels = ops.one_hot(ops.cast(truth[..., 4], "int32"), scores.shape[-1])

    # `(n, boxes, cells)`, like most of what follows.
    inside, distance = _places(truth[..., :4], cells)
    overlap = _pair_iou(truth[..., :4], boxes)
    score = ops.matmul(labels, ops.transpose(scores, (0, 2, 1)))
    alignment = score**SCORE_POWER * overlap**OVERLAP_POWER
    # A distance of one cell halves what nearness adds.
    rank = alignment + NEARNESS / (1.0 + distance / cells.strides)
    holds_none = ops.logical_not(ops.any(inside, axis=-1, keepdims=True))
    only = ops.logical_and(ops.logical_and(holds_none, is_box), _nearest(distance))
    is_candidate = ops.logical_or(ops.logical_and(inside, is_box), only)
    # Its only cell a box gets before all others.
    claim = overlap + ops.cast(only, "float32")
    owned = _best_cells(ops.where(is_candidate, rank, -1.0), claim, most)
    owned = ops.cast(_with_free_cells(owned, is_box, distance), "float32")

    # The best cell of a box is to say how much it overlaps, the others their share of that.
    best_alignment = ops.max(alignment * owned, axis=-1, keepdims=True)
    best_overlap = ops.max(overlap * owned, axis=-1, keepdims=True)
    share = ops.where(best_alignment > 0.0, alignment / ops.maximum(best_alignment, 1e-37), 0.0)
    owners = ops.transpose(owned, (0, 2, 1))
    wanted = ops.transpose(owned * share * best_overlap, (0, 2, 1))
    positive = ops.max(owned, axis=1)
    in_crowd = ops.any(ops.logical_and(inside, is_crowd[..., None]), axis=1)
    return Assignment(
        ops.stop_gradient(ops.matmul(wanted, labels)),
        ops.stop_gradient(ops.matmul(owners, truth[..., :4])),
        ops.stop_gradient(positive),
        ops.stop_gradient(ops.maximum(positive, 1.0 - ops.cast(in_crowd, "float32"))),
    )


def _best_cells(rank: Tensor, claim: Tensor, most: int) -> Tensor:
    """Which cells each box gets of those with a rank of 0 or more, bool. One that several would
    have goes to the box whose best cell it is, else to the one with the highest claim.
    """
    last = ops.top_k(rank, min(most, rank.shape[-1]))[0]
    chosen = ops.logical_and(rank >= 0.0, rank >= last[..., -1:])
    best = ops.logical_and(chosen, rank >= last[..., :1])
    claim = ops.where(chosen, claim + ops.cast(best, "float32"), -1.0)
    highest = ops.logical_and(chosen, claim >= ops.max(claim, axis=1, keepdims=True))
    return ops.logical_and(highest, _first_box(highest))


def _with_free_cells(owned: Tensor, is_box: Tensor, distance: Tensor) -> Tensor:
    """`owned`, and for each box without a cell the nearest one that no box has: a round gives one
    to one box of an image at least, and seldom is there a round.
    """

    def lacking(owned: Tensor) -> Tensor:
        return ops.logical_and(is_box, ops.logical_not(ops.any(owned, axis=-1, keepdims=True)))

    def give(owned: Tensor) -> tuple[Tensor]:
        taken = ops.any(owned, axis=1, keepdims=True)
        nearest = _nearest(ops.where(taken, FAR, distance))
        wanted = ops.logical_and(ops.logical_and(nearest, lacking(owned)), ~taken)
        return (ops.logical_or(owned, ops.logical_and(wanted, _first_box(wanted))),)

    (owned,) = ops.while_loop(
        lambda owned: ops.any(lacking(owned)),
        give,
        (owned,),
        maximum_iterations=ops.shape(is_box)[1],
    )
    return owned


def _nearest(distance: Tensor) -> Tensor:
    """The cell at the shortest distance of each box, bool `(n, boxes, cells)`."""
    place = ops.argmin(distance, axis=-1)
    return ops.cast(ops.one_hot(place, distance.shape[-1]), "bool")


def _first_box(is_claimed: Tensor) -> Tensor:
    """Of the boxes that claim a cell alike the first, bool `(n, boxes, cells)`; true too for those
    before it, which do not claim it.
    """
    return ops.cumsum(ops.cast(is_claimed, "int32"), axis=1) <= 1


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """Rezatofighi et al. 2019, arXiv:1902.09630, of pairs of boxes `(..., 4)`: `(...)`, -1 to 1."""
    common, union = _overlap(first, second)
    low = ops.minimum(first[..., :2], second[..., :2])
    high = ops.maximum(first[..., 2:], second[..., 2:])
    hull = ops.prod(high - low, axis=-1)
    overlap = common / ops.maximum(union, SMALLEST)
    return overlap - (hull - union) / ops.maximum(hull, SMALLEST)


def _pair_iou(first: Tensor, second: Tensor) -> Tensor:
    """`(n, a, 4)` and `(n, b, 4)` -> `(n, a, b)`."""
    common, union = _overlap(first[:, :, None], second[:, None])
    return common / ops.maximum(union, SMALLEST)


def _overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union."""
    low = ops.maximum(first[..., :2], second[..., :2])
    high = ops.minimum(first[..., 2:], second[..., 2:])
    common = ops.prod(ops.maximum(high - low, 0.0), axis=-1)
    areas = [ops.prod(box[..., 2:] - box[..., :2], axis=-1) for box in (first, second)]
    return common, areas[0] + areas[1] - common


def _places(truth: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """Whether each cell's centre lies in each box, and how far it is from the box's middle, in
    pixels: `(n, boxes, cells)` both.
    """
    x, y = cells.centres.T
    x0, y0, x1, y1 = (truth[..., side, None] for side in range(4))
    margin = ops.minimum(ops.minimum(x - x0, x1 - x), ops.minimum(y - y0, y1 - y))
    across, down = x - (x0 + x1) / 2, y - (y0 + y1) / 2
    return margin > 0.0, ops.sqrt(across**2 + down**2)
