"""What the rows of one family of backbones share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["FAMILIES", "Family", "Preprocessing"]

Preprocessing = Literal["tf", "torch", "caffe", "in_graph"]


@dataclass(frozen=True)
class Family:
    """What the backbones of one family share; see `Backbone`.

    Attributes:
        preprocessing, paper, licence, accuracy_source, min_image_size: as of each row.
    """

    preprocessing: Preprocessing
    paper: str
    licence: str
    accuracy_source: str
    min_image_size: int = 32


_KERAS_TABLE = "keras.io/api/applications, table of available models"
_KERAS_README = "README of github.com/keras-team/keras-applications, 100 - error"
_KERAS_DOCSTRING = "docstring of keras.applications.MobileNetV3Small and Large, Keras 3.15.1"

FAMILIES: Mapping[str, Family] = {
    "convnext": Family("in_graph", "2201.03545", "MIT", _KERAS_TABLE),
    "densenet": Family("torch", "1608.06993", "BSD-3-Clause", _KERAS_TABLE),
    "efficientnet": Family("in_graph", "1905.11946", "Apache-2.0", _KERAS_TABLE),
    "efficientnet_v2": Family("in_graph", "2104.00298", "Apache-2.0", _KERAS_TABLE),
    "inception_resnet_v2": Family(
        "tf", "1602.07261", "Apache-2.0", _KERAS_TABLE, min_image_size=75
    ),
    "inception_v3": Family("tf", "1512.00567", "Apache-2.0", _KERAS_TABLE, min_image_size=75),
    "mobilenet": Family("tf", "1704.04861", "Apache-2.0", _KERAS_README),
    "mobilenet_v2": Family("tf", "1801.04381", "Apache-2.0", _KERAS_README),
    "mobilenet_v3": Family("in_graph", "1905.02244", "Apache-2.0", _KERAS_DOCSTRING),
    "nasnet": Family("tf", "1707.07012", "Apache-2.0", _KERAS_TABLE),
    "resnet": Family("caffe", "1512.03385", "MIT", _KERAS_TABLE),
    "resnet_v2": Family("tf", "1603.05027", "BSD-3-Clause", _KERAS_TABLE),
    "vgg": Family("caffe", "1409.1556", "CC-BY-4.0", _KERAS_TABLE),
    "xception": Family("tf", "1610.02357", "MIT", _KERAS_TABLE, min_image_size=71),
}
