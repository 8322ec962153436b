"""The backbone of a run: a row of a table with its weights, how it is built, fed and scheduled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from graft.recipes.codecs import augmentation, decoding
from graft.recipes.codecs.images import ImageCodec
from graft.recipes.codecs.text_codec import TextCodec
from graft.recipes.codecs.texts import Texts
from graft.recipes.runs import hints
from graft.recipes.runs.options import ImageConfig, TextConfig
from graft.recipes.train import schedule
from graft.recipes.train.schedule import Phase
from graft.zoo.backbones import encoders
from graft.zoo.backbones import table as backbone_table
from graft.zoo.backbones import weights as backbone_weights
from graft.zoo.backbones.encoders import Encoder
from graft.zoo.backbones.table import Backbone
from graft.zoo.errors import UnknownName
from graft.zoo.fits import STRETCH, Fit, ImageShape, ImageSize
from graft.zoo.terminal import say

if TYPE_CHECKING:
    import keras

__all__ = ["ImageBackbone", "Reading", "TextBackbone", "found", "modality_of"]

LEAST_UPDATES = 100
"""Of a phase of a text encoder whose epochs nobody asked for."""
MAX_LENGTH = 128
"""Tokens of a text where nobody says how many."""


@dataclass(frozen=True)
class ImageBackbone:
    """A backbone for images.

    Attributes:
        row: of the table.
        weights: what it begins with: "imagenet", "bundled", "none" or a path.
        shape: of the images that it takes.
        skip_bad: whether images that cannot be read are left out.
        fit: how an image of other proportions is fitted.
    """

    row: Backbone
    weights: str
    shape: ImageShape
    skip_bad: bool
    fit: Fit = STRETCH
    noun: ClassVar[str] = ImageCodec.noun

    @classmethod
    def chosen(cls, config: ImageConfig) -> "ImageBackbone":
        """What a recipe asks for.

        Raises:
            UnknownName, ConfigError: there is no such backbone, or weights that it does not have;
                it takes no images of this size, or these cannot be augmented so.
        """
        row = backbone_table.find_backbone(config.backbone)
        shape = _shape_of(row, config.image_size)
        augmentation.check_channels(config.fit.augment, shape.channels)
        default = backbone_table.default_weights(row)
        spec = schedule.weights_for(config.schedule, config.weights, default)
        return cls(row, spec, shape, config.skip_bad, config.image_fit)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.row.name

    def build(self, weights: str | None = None) -> "keras.Model":
        """The graph, with other `weights` where they are given."""
        from graft.zoo.backbones.build import build_backbone

        return build_backbone(self.row, image_size=self.shape, weights=weights or self.weights)

    def codec(self, model: "keras.Model", config: Any = None) -> ImageCodec:
        """What feeds a model that stands on it; in a run of `config` images are kept decoded."""
        if config is None:
            return ImageCodec(self.shape, self.skip_bad, None, self.fit)
        decoded = decoding.decoded_beside(config, self.shape)
        memory = config.fit.memory_bytes
        return ImageCodec(self.shape, self.skip_bad, decoded, self.fit, memory)

    def phases(self, config: Any) -> tuple[Phase, ...]:
        """The schedule that a recipe asks for."""
        return schedule.resolve(
            config.schedule,
            config.epochs,
            config.learning_rate,
            getattr(config, "layer_decay", None),
            getattr(config, "blocks", None),
            known=getattr(config, "schedules", schedule.SCHEDULES),
        )

    def scratch(self, config: Any, phases: Sequence[Phase]) -> tuple[Phase, ...]:
        """The schedule of a training from random weights that is compared with `phases`."""
        return schedule.resolve("scratch", sum(phase.epochs for phase in phases))

    def concerns(self, examples: Mapping[str, Any]) -> list[str]:
        """What is wrong with examples for it, in sentences."""
        return []

    def describe(self, model: "keras.Model") -> dict:
        """What a model is made of, where its weights came from, and its size with the heads."""
        return {
            "name": self.row.name,
            "parameters": model.count_params(),
            "paper": self.row.paper,
            "licence": self.row.licence,
            "weights": backbone_weights.describe_weights(
                self.row, self.weights, image_size=self.shape
            ),
        }


@dataclass(frozen=True)
class TextBackbone:
    """An encoder of texts.

    Attributes:
        row: of the table.
        weights: what it begins with: "preset", "bundled", "folder" or "none".
        max_length: the most tokens of a text.
    """

    row: Encoder
    weights: str
    max_length: int
    noun: ClassVar[str] = TextCodec.noun

    @classmethod
    def chosen(cls, config: TextConfig) -> "TextBackbone":
        """What a recipe asks for.

        Raises:
            UnknownName, ConfigError: there is no such encoder, or weights that it does not have.
        """
        row = encoders.find_encoder(config.backbone)
        spec = schedule.weights_for(config.schedule, config.weights, row.weights[0])
        return cls(row, spec, min(config.max_length, row.max_length))

    @property
    def name(self) -> str:
        """What it is called."""
        return self.row.name

    def build(self, weights: str | None = None) -> "keras.Model":
        """The graph, with other `weights` where they are given."""
        return encoders.build_encoder(self.row, weights or self.weights)

    def codec(self, model: "keras.Model", config: Any = None) -> TextCodec:
        """What feeds a model that stands on it."""
        names = tuple(tensor.name for tensor in model.inputs)
        return TextCodec(encoders.load_tokenizer(self.row), names, self.max_length)

    def phases(self, config: Any, examples: int) -> tuple[Phase, ...]:
        """The schedule that a recipe asks for, to train on so many `examples`: a phase has
        `LEAST_UPDATES` at least where nobody set its epochs.
        """
        known = {
            name: schedule.for_width(own, self.row.feature_dim)
            for name, own in schedule.TEXT_SCHEDULES.items()
        }
        phases = schedule.resolve(
            config.schedule,
            config.epochs,
            config.learning_rate,
            config.layer_decay,
            config.blocks,
            known=known,
        )
        if config.epochs is not None:
            return phases
        steps = max(1, examples // config.fit.batch_size)
        return schedule.lengthened(phases, steps, LEAST_UPDATES)

    def scratch(self, config: Any, phases: Sequence[Phase]) -> tuple[Phase, ...]:
        """The schedule of a training from random weights that is compared with `phases`."""
        epochs = config.scratch_epochs or sum(phase.epochs for phase in phases)
        from_nothing = schedule.resolve("scratch", epochs, known=schedule.TEXT_SCHEDULES)
        return schedule.for_width(from_nothing, self.row.feature_dim)

    def concerns(self, examples: Mapping[str, Texts]) -> list[str]:
        """Texts that its tokenizer cannot read."""
        learned = {
            "training" if name == "train" else name: part
            for name, part in examples.items()
            if name not in ("validation", "test")
        }
        return hints.unknown_tokens(learned, self.row)

    def describe(self, model: "keras.Model") -> dict:
        """What a model is made of, where its weights came from, and its size with the heads."""
        return {
            "name": self.row.name,
            "family": self.row.family,
            "feature_dim": self.row.feature_dim,
            "max_length": self.row.max_length,
            "parameters": model.count_params(),
            "paper": self.row.paper,
            "licence": self.row.licence,
            "weights": encoders.describe_encoder(self.row, self.weights),
        }


@dataclass(frozen=True)
class Reading:
    """How images are read for a backbone that no run has chosen; texts are read in one way.

    Attributes:
        image_size: in pixels; None: the backbone's own.
        fit: how an image of other proportions is fitted.
        skip_bad: whether images that cannot be read are left out.
    """

    image_size: ImageSize | None = None
    fit: Fit = STRETCH
    skip_bad: bool = False


def found(
    name: str, weights: str | None, reading: Reading | None = None
) -> ImageBackbone | TextBackbone:
    """The backbone of this name, of whatever modality, with its default weights where none are
    given.

    Raises:
        UnknownName: there is none.
    """
    return BY_MODALITY[modality_of(name)](name, weights, reading or Reading())


def modality_of(name: str) -> str:
    """What a backbone is for.

    Raises:
        UnknownName: there is no such backbone; says the nearest name.
    """
    try:
        return backbone_table.find_backbone(name).modality
    except UnknownName as error:
        try:
            encoders.find_encoder(name)
        except UnknownName as of_texts:
            raise (error if error.nearest or not of_texts.nearest else of_texts) from None
        return TextCodec.modality


def _images(name: str, weights: str | None, reading: Reading) -> ImageBackbone:
    row = backbone_table.find_backbone(name)
    spec = weights or backbone_table.default_weights(row)
    shape = _shape_of(row, reading.image_size)
    return ImageBackbone(row, spec, shape, reading.skip_bad, reading.fit)


def _shape_of(row: Backbone, image_size: ImageSize | None) -> ImageShape:
    """The images that a backbone is to take; says so where nobody chose their size."""
    shape = row.shape(image_size)
    if image_size is None and row.any_size:
        say(f"'{row.target}' takes images of any size: here {shape} pixels (see --image-size)")
    return shape


def _texts(name: str, weights: str | None, reading: Reading) -> TextBackbone:
    row = encoders.find_encoder(name)
    return TextBackbone(row, weights or row.weights[0], min(MAX_LENGTH, row.max_length))


BY_MODALITY = {"image": _images, "text": _texts}
