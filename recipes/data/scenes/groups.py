"""By what the splits of scenes are stratified, as an image may show several labels."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from graft.recipes.data.scenes.scene import Scene
from graft.recipes.data.splits import SHARE

__all__ = ["with_groups"]

SMALLEST_GROUP = math.ceil(1 / SHARE)
"""Scenes of a group: of fewer each split would take more than its share, as it takes one at
least.
"""


def with_groups(scenes: Sequence[Scene]) -> list[Scene]:
    """The training `scenes` with the groups by which splits can be made of them.

    The group of a scene is the rarest of its labels, so that rare ones come into each split. A
    label with too few scenes for that gives them to the next label that they show; those that show
    nothing are a group of their own, or go with the largest where they are too few.
    """
    counts = Counter(label for scene in scenes for label in scene.labels)
    order = sorted(counts, key=lambda label: (counts[label], label))
    waiting: dict[str, list[int]] = defaultdict(list)
    rank = {label: number for number, label in enumerate(order)}
    labels = [sorted(scene.labels, key=lambda label: rank[label]) for scene in scenes]
    groups = [""] * len(scenes)
    for number, found in enumerate(labels):
        waiting[found[0] if found else ""].append(number)
    for label in order:  # from the rarest: what it gives away comes later
        if len(waiting[label]) >= SMALLEST_GROUP:
            for number in waiting[label]:
                groups[number] = label
            continue
        for number in waiting.pop(label):
            others = labels[number][labels[number].index(label) + 1 :]
            waiting[others[0] if others else ""].append(number)
    sizes = Counter(groups)
    if 0 < sizes[""] < SMALLEST_GROUP and len(sizes) > 1:
        largest = max((label for label in sizes if label), key=lambda label: (sizes[label], label))
        groups = [group or largest for group in groups]
    return [replace(scene, group=group) for scene, group in zip(scenes, groups, strict=True)]
