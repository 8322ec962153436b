"""The catalogue of backbones for pictures: one literal table, and the row behind a name.

Importing this module imports neither Keras nor NumPy, so that the catalogue can be listed at once.

Where the columns come from: parameters, feature dimension and minimum size are what Keras 3.15
    builds (a test builds
every row); the ImageNet files are those that keras.applications itself downloads (a test compares
them); accuracy is the published figure of the named source; the licence is the one of the ImageNet
weights as the documentation of keras.applications or their original authors state it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from graft.zoo.errors import UnknownName

__all__ = ["BACKBONES", "OWN", "Backbone", "Download", "Preprocessing", "default_weights", "find"]

Preprocessing = Literal["tf", "torch", "caffe", "in_graph"]

OWN = "own"
"""The family, and the SPEC of the weights, of a .keras file given as a backbone."""


@dataclass(frozen=True)
class Download:
    """The file of ImageNet weights without top that keras.applications downloads for a row.

    Attributes:
        file: its name in Keras's cache (`~/.keras/models`).
        url: where it comes from.
        hash: MD5 or SHA-256, hexadecimal; None where Keras gives none.
        sizes: image sizes that have weights of their own, `{size}` in `file` and `url`; other sizes
            use 224.
    """

    file: str
    url: str
    hash: str | None
    sizes: tuple[int, ...] = ()


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
        image_size: height and width in pixels that it was designed for; the default of `build`.
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
    """

    name: str
    family: str
    modality: str
    target: str
    arguments: tuple[tuple[str, float | bool], ...]
    parameters: int
    image_size: int
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


_KERAS_TABLE = "keras.io/api/applications, table of available models"
_KERAS_README = "README of github.com/keras-team/keras-applications, 100 - error"
_KERAS_DOCSTRING = "docstring of keras.applications.MobileNetV3Small and Large, Keras 3.15.1"
_STORE = "https://storage.googleapis.com/tensorflow/keras-applications/"
_BUNDLED = ("mobilenet_v2_0.35",)


def _family(
    family: str,
    preprocessing: Preprocessing,
    paper: str,
    licence: str,
    accuracy_source: str,
    url: str,
    sizes: tuple[int, ...],
    *members: tuple,
) -> tuple[Backbone, ...]:
    """The rows of one family. A member gives name, function, arguments, parameters, image size,
    minimum size, feature dimension, top 1, top 5, file, hash, and the file's name on the server
    where it is another one.
    """
    return tuple(
        Backbone(
            name=name,
            family=family,
            modality="image",
            target=f"keras.applications:{function}",
            arguments=arguments,
            parameters=parameters,
            image_size=image_size,
            min_image_size=min_image_size,
            preprocessing=preprocessing,
            feature_dim=feature_dim,
            weights=("bundled", "imagenet", "none") if name in _BUNDLED else ("imagenet", "none"),
            licence=licence,
            paper=paper,
            top1=top1,
            top5=top5,
            accuracy_source=accuracy_source,
            download=Download(
                file,
                url + (remote[0] if remote else file),
                digest,
                sizes if "{size}" in file else (),
            ),
        )
        for (
            name,
            function,
            arguments,
            parameters,
            image_size,
            min_image_size,
            feature_dim,
            top1,
            top5,
            file,
            digest,
            *remote,
        ) in members
    )


# fmt: off
BACKBONES: tuple[Backbone, ...] = (
    *_family("convnext", "in_graph", "2201.03545", "MIT", _KERAS_TABLE, f"{_STORE}convnext/", (),
        ("convnext_base", "ConvNeXtBase", (), 87_566_464, 224, 32, 1024, 85.3, None,
            "convnext_base_notop.h5", "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45"),
        ("convnext_large", "ConvNeXtLarge", (), 196_230_336, 224, 32, 1536, 86.3, None,
            "convnext_large_notop.h5", "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd"),
        ("convnext_small", "ConvNeXtSmall", (), 49_454_688, 224, 32, 768, 82.3, None,
            "convnext_small_notop.h5", "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab"),
        ("convnext_tiny", "ConvNeXtTiny", (), 27_820_128, 224, 32, 768, 81.3, None,
            "convnext_tiny_notop.h5", "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1"),
        ("convnext_xlarge", "ConvNeXtXLarge", (), 348_147_968, 224, 32, 2048, 86.7, None,
            "convnext_xlarge_notop.h5", "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05")),
    *_family("densenet", "torch", "1608.06993", "BSD-3-Clause", _KERAS_TABLE, f"{_STORE}densenet/", (),
        ("densenet121", "DenseNet121", (), 7_037_504, 224, 32, 1024, 75.0, 92.3,
            "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5", "30ee3e1110167f948a6b9946edeeb738"),
        ("densenet169", "DenseNet169", (), 12_642_880, 224, 32, 1664, 76.2, 93.2,
            "densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5", "b8c4d4c20dd625c148057b9ff1c1176b"),
        ("densenet201", "DenseNet201", (), 18_321_984, 224, 32, 1920, 77.3, 93.6,
            "densenet201_weights_tf_dim_ordering_tf_kernels_notop.h5", "c13680b51ded0fb44dff2d8f86ac8bb1")),
    *_family("efficientnet", "in_graph", "1905.11946", "Apache-2.0", _KERAS_TABLE,
             "https://storage.googleapis.com/keras-applications/", (),
        ("efficientnet_b0", "EfficientNetB0", (), 4_049_571, 224, 32, 1280, 77.1, 93.3,
            "efficientnetb0_notop.h5", "50bc09e76180e00e4465e1a485ddc09d"),
        ("efficientnet_b1", "EfficientNetB1", (), 6_575_239, 240, 32, 1280, 79.1, 94.4,
            "efficientnetb1_notop.h5", "74c4e6b3e1f6a1eea24c589628592432"),
        ("efficientnet_b2", "EfficientNetB2", (), 7_768_569, 260, 32, 1408, 80.1, 94.9,
            "efficientnetb2_notop.h5", "111f8e2ac8aa800a7a99e3239f7bfb39"),
        ("efficientnet_b3", "EfficientNetB3", (), 10_783_535, 300, 32, 1536, 81.6, 95.7,
            "efficientnetb3_notop.h5", "af6d107764bb5b1abb91932881670226"),
        ("efficientnet_b4", "EfficientNetB4", (), 17_673_823, 380, 32, 1792, 82.9, 96.4,
            "efficientnetb4_notop.h5", "ebc24e6d6c33eaebbd558eafbeedf1ba"),
        ("efficientnet_b5", "EfficientNetB5", (), 28_513_527, 456, 32, 2048, 83.6, 96.7,
            "efficientnetb5_notop.h5", "38879255a25d3c92d5e44e04ae6cec6f"),
        ("efficientnet_b6", "EfficientNetB6", (), 40_960_143, 528, 32, 2304, 84.0, 96.8,
            "efficientnetb6_notop.h5", "9ecce42647a20130c1f39a5d4cb75743"),
        ("efficientnet_b7", "EfficientNetB7", (), 64_097_687, 600, 32, 2560, 84.3, 97.0,
            "efficientnetb7_notop.h5", "cbcfe4450ddf6f3ad90b1b398090fe4a")),
    *_family("efficientnet_v2", "in_graph", "2104.00298", "Apache-2.0", _KERAS_TABLE, f"{_STORE}efficientnet_v2/", (),
        ("efficientnet_v2_b0", "EfficientNetV2B0", (), 5_919_312, 224, 32, 1280, 78.7, 94.3,
            "efficientnetv2-b0_notop.h5", "893217f2bb855e2983157299931e43ff"),
        ("efficientnet_v2_b1", "EfficientNetV2B1", (), 6_931_124, 240, 32, 1280, 79.8, 95.0,
            "efficientnetv2-b1_notop.h5", "0e80663031ca32d657f9caa404b6ec37"),
        ("efficientnet_v2_b2", "EfficientNetV2B2", (), 8_769_374, 260, 32, 1408, 80.5, 95.1,
            "efficientnetv2-b2_notop.h5", "1dfe2e7a5d45b6632553a8961ea609eb"),
        ("efficientnet_v2_b3", "EfficientNetV2B3", (), 12_930_622, 300, 32, 1536, 82.0, 95.8,
            "efficientnetv2-b3_notop.h5", "f6abf7b5849ac99a89b50dd3fd532856"),
        ("efficientnet_v2_l", "EfficientNetV2L", (), 117_746_848, 480, 32, 1280, 85.7, 97.5,
            "efficientnetv2-l_notop.h5", "b0b66b5c863aef5b46e8608fe1711615"),
        ("efficientnet_v2_m", "EfficientNetV2M", (), 53_150_388, 480, 32, 1280, 85.3, 97.4,
            "efficientnetv2-m_notop.h5", "1b8dc055df72dde80d614482840fe342"),
        ("efficientnet_v2_s", "EfficientNetV2S", (), 20_331_360, 384, 32, 1280, 83.9, 96.7,
            "efficientnetv2-s_notop.h5", "af0682fb74e8c54910f2d4393339c070")),
    *_family("inception_resnet_v2", "tf", "1602.07261", "Apache-2.0", _KERAS_TABLE,
             f"{_STORE}inception_resnet_v2/", (),
        ("inception_resnet_v2", "InceptionResNetV2", (), 54_336_736, 299, 75, 1536, 80.3, 95.3,
            "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5", "d19885ff4a710c122648d3b5c3b684e4")),
    *_family("inception_v3", "tf", "1512.00567", "Apache-2.0", _KERAS_TABLE, f"{_STORE}inception_v3/", (),
        ("inception_v3", "InceptionV3", (), 21_802_784, 299, 75, 2048, 77.9, 93.7,
            "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5", "bcbd6486424b2319ff4ef7d526e38f63")),
    *_family("mobilenet", "tf", "1704.04861", "Apache-2.0", _KERAS_README, f"{_STORE}mobilenet/", (128, 160, 192, 224),
        ("mobilenet", "MobileNet", (("alpha", 1.0),), 3_228_864, 224, 32, 1024, 70.4, 89.5,
            "mobilenet_1_0_{size}_tf_no_top.h5", None),
        ("mobilenet_0.25", "MobileNet", (("alpha", 0.25),), 218_544, 224, 32, 256, 51.6, 75.8,
            "mobilenet_2_5_{size}_tf_no_top.h5", None),
        ("mobilenet_0.5", "MobileNet", (("alpha", 0.5),), 829_536, 224, 32, 512, 64.3, 85.6,
            "mobilenet_5_0_{size}_tf_no_top.h5", None),
        ("mobilenet_0.75", "MobileNet", (("alpha", 0.75),), 1_832_976, 224, 32, 768, 68.4, 88.2,
            "mobilenet_7_5_{size}_tf_no_top.h5", None)),
    # Keras would ask for files of 1.3 and 1.4 at other sizes than 224, which do not exist (keras
    # issue 16452).
    *_family("mobilenet_v2", "tf", "1801.04381", "Apache-2.0", _KERAS_README, f"{_STORE}mobilenet_v2/",
             (96, 128, 160, 192, 224),
        ("mobilenet_v2", "MobileNetV2", (("alpha", 1.0),), 2_257_984, 224, 32, 1280, 71.3, 90.1,
            "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_{size}_no_top.h5", None),
        ("mobilenet_v2_0.35", "MobileNetV2", (("alpha", 0.35),), 410_208, 224, 32, 1280, 60.1, 82.4,
            "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_{size}_no_top.h5", None),
        ("mobilenet_v2_0.5", "MobileNetV2", (("alpha", 0.5),), 706_224, 224, 32, 1280, 65.2, 86.1,
            "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.5_{size}_no_top.h5", None),
        ("mobilenet_v2_0.75", "MobileNetV2", (("alpha", 0.75),), 1_382_064, 224, 32, 1280, 69.5, 89.2,
            "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.75_{size}_no_top.h5", None),
        ("mobilenet_v2_1.3", "MobileNetV2", (("alpha", 1.3),), 3_766_048, 224, 32, 1664, 74.7, 92.1,
            "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.3_224_no_top.h5", None),
        ("mobilenet_v2_1.4", "MobileNetV2", (("alpha", 1.4),), 4_363_712, 224, 32, 1792, 75.2, 92.4,
            "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.4_224_no_top.h5", None)),
    *_family("mobilenet_v3", "in_graph", "1905.02244", "Apache-2.0", _KERAS_DOCSTRING, f"{_STORE}mobilenet_v3/", (),
        ("mobilenet_v3_large", "MobileNetV3Large", (), 2_996_352, 224, 32, 960, 75.6, None,
            "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5", "07fb09a5933dd0c8eaafa16978110389"),
        ("mobilenet_v3_large_0.75", "MobileNetV3Large", (("alpha", 0.75),), 1_808_736, 224, 32, 720, 73.3, None,
            "weights_mobilenet_v3_large_224_0.75_float_no_top_v2.h5", "40af19a13ebea4e2ee0c676887f69a2e"),
        ("mobilenet_v3_large_minimalistic", "MobileNetV3Large", (("minimalistic", True),), 1_437_608, 224, 32, 960,
            72.3, None,
            "weights_mobilenet_v3_large_minimalistic_224_1.0_float_no_top_v2.h5", "ec5221f64a2f6d1ef965a614bdae7973"),
        ("mobilenet_v3_small", "MobileNetV3Small", (), 939_120, 224, 32, 576, 68.1, None,
            "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5", "d3e8ec802a04aa4fc771ee12a9a9b836"),
        ("mobilenet_v3_small_0.75", "MobileNetV3Small", (("alpha", 0.75),), 583_160, 224, 32, 432, 65.4, None,
            "weights_mobilenet_v3_small_224_0.75_float_no_top_v2.h5", "ebdb5cc8e0b497cd13a7c275d475c819"),
        ("mobilenet_v3_small_minimalistic", "MobileNetV3Small", (("minimalistic", True),), 441_000, 224, 32, 576,
            61.9, None,
            "weights_mobilenet_v3_small_minimalistic_224_1.0_float_no_top_v2.h5", "cde8136e733e811080d9fcd8a252f7e4")),
    *_family("nasnet", "tf", "1707.07012", "Apache-2.0", _KERAS_TABLE, f"{_STORE}nasnet/", (),
        ("nasnet_large", "NASNetLarge", (), 84_916_818, 331, 32, 4032, 82.5, 96.0,
            "nasnet_large_no_top.h5", "d81d89dc07e6e56530c4e77faddd61b5", "NASNet-large-no-top.h5"),
        ("nasnet_mobile", "NASNetMobile", (), 4_269_716, 224, 32, 1056, 74.4, 91.9,
            "nasnet_mobile_no_top.h5", "1ed92395b5b598bdda52abe5c0dbfd63", "NASNet-mobile-no-top.h5")),
    *_family("resnet", "caffe", "1512.03385", "MIT", _KERAS_TABLE, f"{_STORE}resnet/", (),
        ("resnet101", "ResNet101", (), 42_658_176, 224, 32, 2048, 76.4, 92.8,
            "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5", "88cf7a10940856eca736dc7b7e228a21"),
        ("resnet152", "ResNet152", (), 58_370_944, 224, 32, 2048, 76.6, 93.1,
            "resnet152_weights_tf_dim_ordering_tf_kernels_notop.h5", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
        ("resnet50", "ResNet50", (), 23_587_712, 224, 32, 2048, 74.9, 92.1,
            "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", "4d473c1dd8becc155b73f8504c6f6626")),
    *_family("resnet_v2", "tf", "1603.05027", "BSD-3-Clause", _KERAS_TABLE, f"{_STORE}resnet/", (),
        ("resnet101_v2", "ResNet101V2", (), 42_626_560, 224, 32, 2048, 77.2, 93.8,
            "resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5", "c0ed64b8031c3730f411d2eb4eea35b5"),
        ("resnet152_v2", "ResNet152V2", (), 58_331_648, 224, 32, 2048, 78.0, 94.2,
            "resnet152v2_weights_tf_dim_ordering_tf_kernels_notop.h5", "ed17cf2e0169df9d443503ef94b23b33"),
        ("resnet50_v2", "ResNet50V2", (), 23_564_800, 224, 32, 2048, 76.0, 93.0,
            "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5", "fac2f116257151a9d068a22e544a4917")),
    *_family("vgg", "caffe", "1409.1556", "CC-BY-4.0", _KERAS_TABLE, _STORE, (),
        ("vgg16", "VGG16", (), 14_714_688, 224, 32, 512, 71.3, 90.1,
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", "6d6bbae143d832006294945121d1f1fc",
            "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        ("vgg19", "VGG19", (), 20_024_384, 224, 32, 512, 71.3, 90.0,
            "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5", "253f8cb515780f3b799900260a226db6",
            "vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5")),
    *_family("xception", "tf", "1610.02357", "MIT", _KERAS_TABLE, f"{_STORE}xception/", (),
        ("xception", "Xception", (), 20_861_480, 299, 71, 2048, 79.0, 94.5,
            "xception_weights_tf_dim_ordering_tf_kernels_notop.h5", "b0042744bf5b25fce3cb969f33bebb97")),
)
# fmt: on
"""The catalogue, sorted by family and name."""


def find(name: str) -> Backbone:
    """The row called `name`; of a .keras file (a model of your own, or of a run) a row that says
    where it is.

    Raises:
        ArtifactError, ConfigError: such a file is missing, damaged, or takes no square pictures.
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
    return OWN if row.family == OWN else "imagenet"


def _own(path: Path) -> Backbone:
    """A row for a model of the user's: its picture size is its own, its licence and figures are not
    known.
    """
    from graft.zoo.backbones.own import image_size

    size = image_size(path)
    return Backbone(
        name=path.stem,
        family=OWN,
        modality="image",
        target=str(path),
        arguments=(),
        parameters=0,
        image_size=size,
        min_image_size=size,
        preprocessing="in_graph",
        feature_dim=0,
        weights=(OWN,),
        licence="unknown",
        paper="",
        top1=None,
        top5=None,
        accuracy_source="",
        download=Download("", "", None),
    )
