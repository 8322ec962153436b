"""The catalogue of backbones for images: one literal table, and the row behind a name.

Importing this module imports neither Keras nor NumPy, so that the catalogue can be listed at once.

Where the columns come from: parameters, feature dimension and minimum size are what Keras 3.15
builds (a test builds every row); accuracy is the published figure of the named source; the licence
is the one of the ImageNet weights as the documentation of keras.applications or their original
authors state it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graft.zoo.backbones.downloads import DOWNLOADS, Download
from graft.zoo.backbones.families import FAMILIES, Preprocessing
from graft.zoo.errors import ConfigError, UnknownName
from graft.zoo.fits import ImageShape, ImageSize, Sides, check_sides

__all__ = [
    "BACKBONES",
    "OWN_FAMILY",
    "Backbone",
    "default_weights",
    "find_backbone",
]

OWN_FAMILY = "own"
"""The family, and the SPEC of the weights, of a .keras file given as a backbone."""
DEFAULT_SIDE = 224
"""Pixels, of a model of the user's that takes any size where nobody chooses one."""


@dataclass(frozen=True)
class Backbone:
    """One row of the catalogue.

    Attributes:
        name: what `--backbone` takes.
        family: rows of one family share paper, preprocessing and licence.
        modality: "image".
        target: module and function that build it.
        arguments: pairs, what the function is called with beside image size and weights.
        parameters: number of scalars without the classifier on top, moving statistics included.
        image_size: height and width in pixels that it was designed for, one number where they are
            the same; the default of `build`.
        min_image_size: the smallest height and width that Keras accepts; the feature map is then 1
            x 1 (Xception 3 x 3).
        preprocessing: Keras's name for what is done to pixels in [0, 255]: "tf" scales to [-1, 1],
            "torch" to [0, 1] and then by the mean and deviation of ImageNet, "caffe" turns RGB into
            BGR and subtracts the mean, "in_graph" is the architecture's own first layers.
        feature_dim: channels of the last feature map.
        weights: the SPECs that can be had, a path apart.
        licence: SPDX identifier, of the ImageNet weights.
        paper: arXiv identifier.
        top1, top5: accuracy on ImageNet-1k validation in percent, single crop; None where the
            source gives none.
        accuracy_source: where top1 and top5 were published.
        download: the file behind "imagenet".
        channels: of its images: 1 (luminance), 3 (RGB) or 4 (RGBA).
        sides: the height and width that all its images have, of a model of the user's.
    """

    name: str
    family: str
    modality: str
    target: str
    arguments: tuple[tuple[str, float | bool], ...]
    parameters: int
    image_size: int | tuple[int, int]
    min_image_size: int
    preprocessing: Preprocessing
    feature_dim: int
    weights: tuple[str, ...]
    licence: str
    paper: str
    top1: float | None
    top5: float | None
    accuracy_source: str
    download: Download
    channels: int = 3
    sides: Sides = (None, None)

    @property
    def any_size(self) -> bool:
        """Whether it is a model of the user's that says no size, so that one has to be chosen."""
        return self.family == OWN_FAMILY and None in self.sides

    def shape(self, image_size: ImageSize | None = None) -> ImageShape:
        """The images that it takes.

        Args:
            image_size: their height and width; None: its own.

        Raises:
            ConfigError: it is no size, or one that it does not take.
        """
        own = ImageShape.of(self.image_size, self.channels)
        if image_size is None:
            return own
        asked = ImageShape.of(image_size)._replace(channels=self.channels)
        check_sides(asked, self.sides, self.target)
        if min(asked[:2]) < self.min_image_size:
            raise ConfigError(
                f"image size {asked} is too small for backbone '{self.name}': "
                f"it needs at least {self.min_image_size} pixels a side ({own} by default)"
            )
        return asked


_V3_LARGE = "MobileNetV3Large"
_V3_SMALL = "MobileNetV3Small"
_MINIMAL: dict[str, float | bool] = {"minimalistic": True}

_Row = tuple[str, str, dict[str, float | bool], int, int, int, float | None, float | None]

_ROWS: Mapping[str, tuple[_Row, ...]] = {
    "convnext": (
        ("convnext_base", "ConvNeXtBase", {}, 87_566_464, 224, 1024, 85.3, None),
        ("convnext_large", "ConvNeXtLarge", {}, 196_230_336, 224, 1536, 86.3, None),
        ("convnext_small", "ConvNeXtSmall", {}, 49_454_688, 224, 768, 82.3, None),
        ("convnext_tiny", "ConvNeXtTiny", {}, 27_820_128, 224, 768, 81.3, None),
        ("convnext_xlarge", "ConvNeXtXLarge", {}, 348_147_968, 224, 2048, 86.7, None),
    ),
    "densenet": (
        ("densenet121", "DenseNet121", {}, 7_037_504, 224, 1024, 75.0, 92.3),
        ("densenet169", "DenseNet169", {}, 12_642_880, 224, 1664, 76.2, 93.2),
        ("densenet201", "DenseNet201", {}, 18_321_984, 224, 1920, 77.3, 93.6),
    ),
    "efficientnet": (
        ("efficientnet_b0", "EfficientNetB0", {}, 4_049_571, 224, 1280, 77.1, 93.3),
        ("efficientnet_b1", "EfficientNetB1", {}, 6_575_239, 240, 1280, 79.1, 94.4),
        ("efficientnet_b2", "EfficientNetB2", {}, 7_768_569, 260, 1408, 80.1, 94.9),
        ("efficientnet_b3", "EfficientNetB3", {}, 10_783_535, 300, 1536, 81.6, 95.7),
        ("efficientnet_b4", "EfficientNetB4", {}, 17_673_823, 380, 1792, 82.9, 96.4),
        ("efficientnet_b5", "EfficientNetB5", {}, 28_513_527, 456, 2048, 83.6, 96.7),
        ("efficientnet_b6", "EfficientNetB6", {}, 40_960_143, 528, 2304, 84.0, 96.8),
        ("efficientnet_b7", "EfficientNetB7", {}, 64_097_687, 600, 2560, 84.3, 97.0),
    ),
    "efficientnet_v2": (
        ("efficientnet_v2_b0", "EfficientNetV2B0", {}, 5_919_312, 224, 1280, 78.7, 94.3),
        ("efficientnet_v2_b1", "EfficientNetV2B1", {}, 6_931_124, 240, 1280, 79.8, 95.0),
        ("efficientnet_v2_b2", "EfficientNetV2B2", {}, 8_769_374, 260, 1408, 80.5, 95.1),
        ("efficientnet_v2_b3", "EfficientNetV2B3", {}, 12_930_622, 300, 1536, 82.0, 95.8),
        ("efficientnet_v2_l", "EfficientNetV2L", {}, 117_746_848, 480, 1280, 85.7, 97.5),
        ("efficientnet_v2_m", "EfficientNetV2M", {}, 53_150_388, 480, 1280, 85.3, 97.4),
        ("efficientnet_v2_s", "EfficientNetV2S", {}, 20_331_360, 384, 1280, 83.9, 96.7),
    ),
    "inception_resnet_v2": (
        ("inception_resnet_v2", "InceptionResNetV2", {}, 54_336_736, 299, 1536, 80.3, 95.3),
    ),
    "inception_v3": (("inception_v3", "InceptionV3", {}, 21_802_784, 299, 2048, 77.9, 93.7),),
    "mobilenet": (
        ("mobilenet", "MobileNet", {"alpha": 1.0}, 3_228_864, 224, 1024, 70.4, 89.5),
        ("mobilenet_0.25", "MobileNet", {"alpha": 0.25}, 218_544, 224, 256, 51.6, 75.8),
        ("mobilenet_0.5", "MobileNet", {"alpha": 0.5}, 829_536, 224, 512, 64.3, 85.6),
        ("mobilenet_0.75", "MobileNet", {"alpha": 0.75}, 1_832_976, 224, 768, 68.4, 88.2),
    ),
    "mobilenet_v2": (
        ("mobilenet_v2", "MobileNetV2", {"alpha": 1.0}, 2_257_984, 224, 1280, 71.3, 90.1),
        ("mobilenet_v2_0.35", "MobileNetV2", {"alpha": 0.35}, 410_208, 224, 1280, 60.1, 82.4),
        ("mobilenet_v2_0.5", "MobileNetV2", {"alpha": 0.5}, 706_224, 224, 1280, 65.2, 86.1),
        ("mobilenet_v2_0.75", "MobileNetV2", {"alpha": 0.75}, 1_382_064, 224, 1280, 69.5, 89.2),
        ("mobilenet_v2_1.3", "MobileNetV2", {"alpha": 1.3}, 3_766_048, 224, 1664, 74.7, 92.1),
        ("mobilenet_v2_1.4", "MobileNetV2", {"alpha": 1.4}, 4_363_712, 224, 1792, 75.2, 92.4),
    ),
    "mobilenet_v3": (
        ("mobilenet_v3_large", _V3_LARGE, {}, 2_996_352, 224, 960, 75.6, None),
        ("mobilenet_v3_large_0.75", _V3_LARGE, {"alpha": 0.75}, 1_808_736, 224, 720, 73.3, None),
        ("mobilenet_v3_large_minimalistic", _V3_LARGE, _MINIMAL, 1_437_608, 224, 960, 72.3, None),
        ("mobilenet_v3_small", _V3_SMALL, {}, 939_120, 224, 576, 68.1, None),
        ("mobilenet_v3_small_0.75", _V3_SMALL, {"alpha": 0.75}, 583_160, 224, 432, 65.4, None),
        ("mobilenet_v3_small_minimalistic", _V3_SMALL, _MINIMAL, 441_000, 224, 576, 61.9, None),
    ),
    "nasnet": (
        ("nasnet_large", "NASNetLarge", {}, 84_916_818, 331, 4032, 82.5, 96.0),
        ("nasnet_mobile", "NASNetMobile", {}, 4_269_716, 224, 1056, 74.4, 91.9),
    ),
    "resnet": (
        ("resnet101", "ResNet101", {}, 42_658_176, 224, 2048, 76.4, 92.8),
        ("resnet152", "ResNet152", {}, 58_370_944, 224, 2048, 76.6, 93.1),
        ("resnet50", "ResNet50", {}, 23_587_712, 224, 2048, 74.9, 92.1),
    ),
    "resnet_v2": (
        ("resnet101_v2", "ResNet101V2", {}, 42_626_560, 224, 2048, 77.2, 93.8),
        ("resnet152_v2", "ResNet152V2", {}, 58_331_648, 224, 2048, 78.0, 94.2),
        ("resnet50_v2", "ResNet50V2", {}, 23_564_800, 224, 2048, 76.0, 93.0),
    ),
    "vgg": (
        ("vgg16", "VGG16", {}, 14_714_688, 224, 512, 71.3, 90.1),
        ("vgg19", "VGG19", {}, 20_024_384, 224, 512, 71.3, 90.0),
    ),
    "xception": (("xception", "Xception", {}, 20_861_480, 299, 2048, 79.0, 94.5),),
}
"""Family -> its rows, sorted: name, function of keras.applications, what that is called with,
parameters, image size, feature dimension, top 1, top 5."""

_BUNDLED = ("mobilenet_v2_0.35",)
"""The rows with a checkpoint of our own."""


def _backbone(family: str, row: _Row) -> Backbone:
    name, function, arguments, parameters, image_size, feature_dim, top1, top5 = row
    shared = FAMILIES[family]
    return Backbone(
        name=name,
        family=family,
        modality="image",
        target=f"keras.applications:{function}",
        arguments=tuple(arguments.items()),
        parameters=parameters,
        image_size=image_size,
        min_image_size=shared.min_image_size,
        preprocessing=shared.preprocessing,
        feature_dim=feature_dim,
        weights=("bundled", "imagenet", "none") if name in _BUNDLED else ("imagenet", "none"),
        licence=shared.licence,
        paper=shared.paper,
        top1=top1,
        top5=top5,
        accuracy_source=shared.accuracy_source,
        download=_download(name),
    )


def _download(name: str) -> Download:
    if name not in DOWNLOADS:
        raise LookupError(f"'{name}' has no file of weights: add it to zoo/backbones/downloads.py")
    return DOWNLOADS[name]


BACKBONES: tuple[Backbone, ...] = tuple(
    _backbone(family, row) for family, rows in _ROWS.items() for row in rows
)
"""The catalogue, sorted by family and name."""


def find_backbone(name: str) -> Backbone:
    """The row of a backbone.

    Args:
        name: of a row, or a .keras file: a model of your own, or of a run.

    Returns:
        The row; of a .keras file one that says where it is.

    Raises:
        ArtifactError, ConfigError: such a file is missing, damaged, or takes no images.
        UnknownName: there is none; the message names the nearest.
    """
    if name.endswith(".keras"):
        return _own(Path(name).expanduser())
    for row in BACKBONES:
        if row.name == name:
            return row
    raise UnknownName(
        "backbone", name, (row.name for row in BACKBONES), "`graft zoo` lists them all."
    )


def default_weights(row: Backbone) -> str:
    """The SPEC that is meant where none is given."""
    return OWN_FAMILY if row.family == OWN_FAMILY else "imagenet"


def _own(path: Path) -> Backbone:
    """A row for a model of the user's: its image size is its own where it has one, its licence and
    figures are not known.
    """
    from graft.zoo.backbones.own import own_input_shape

    height, width, channels = own_input_shape(path)
    shape = ImageShape(height or DEFAULT_SIDE, width or DEFAULT_SIDE, channels)
    return Backbone(
        name=path.stem,
        family=OWN_FAMILY,
        modality="image",
        target=str(path),
        arguments=(),
        parameters=0,
        image_size=shape.height if shape.is_square else shape[:2],
        min_image_size=1,
        preprocessing="in_graph",
        feature_dim=0,
        weights=(OWN_FAMILY,),
        licence="unknown",
        paper="",
        top1=None,
        top5=None,
        accuracy_source="",
        download=Download("", "", None),
        channels=channels,
        sides=(height, width),
    )
