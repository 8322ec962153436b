"""What stands on a backbone, by name: `heads.single_label(labels)`, `heads.tags(labels)`, ..."""

from graft.zoo.heads.dense.detection import boxes
from graft.zoo.heads.embedding import embedding
from graft.zoo.heads.head import Head, Heads, compile_arguments
from graft.zoo.heads.masks.masks import masks
from graft.zoo.heads.multi_label import multi_label
from graft.zoo.heads.regression import regression
from graft.zoo.heads.single_label import single_label
from graft.zoo.heads.tags import tags

__all__ = [
    "Head",
    "Heads",
    "boxes",
    "compile_arguments",
    "embedding",
    "masks",
    "multi_label",
    "regression",
    "single_label",
    "tags",
]
