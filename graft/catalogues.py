"""What there is to choose from: backbones and schedules."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from graft.shown import Rows, html_table, text_table

if TYPE_CHECKING:
    from graft.recipes.train.schedule import Phase
    from graft.zoo.backbones.encoder_table import Encoder
    from graft.zoo.backbones.table import Backbone

__all__ = ["Schedules", "schedules", "zoo"]


def zoo() -> Rows:
    """The backbones for images and the encoders for texts.

    Returns:
        A row each: "name", "modality", "parameters", "size" (pixels of a side, or tokens),
        "features", "top1" (published, ImageNet, percent) and "weights". All that is known of them:
        `graft zoo --json`.
    """
    from graft.zoo.backbones.encoder_table import ENCODERS
    from graft.zoo.backbones.table import BACKBONES

    rows = Rows()
    for row in BACKBONES:
        rows.append(_row(row, row.modality, row.shape().height, row.top1))
    for encoder in ENCODERS:
        rows.append(_row(encoder, "text", encoder.max_length, None))
    return rows


def _row(row: "Backbone | Encoder", modality: str, size: int, top1: float | None) -> dict:
    return {
        "name": row.name,
        "modality": modality,
        "parameters": row.parameters,
        "size": size,
        "features": row.feature_dim,
        "top1": top1,
        "weights": row.weights,
    }


class Schedules(Mapping[str, "tuple[Phase, ...]"]):
    """The freezing schedules for images by name; those for texts are `schedules.texts`."""

    @property
    def texts(self) -> "Mapping[str, tuple[Phase, ...]]":
        """The schedules for encoders of texts."""
        from graft.recipes.train.schedule import TEXT_SCHEDULES

        return TEXT_SCHEDULES

    @property
    def _images(self) -> "Mapping[str, tuple[Phase, ...]]":
        from graft.recipes.train.schedule import SCHEDULES

        return SCHEDULES

    def __getitem__(self, name: str) -> "tuple[Phase, ...]":
        from graft.zoo.errors import UnknownName

        if name not in self._images:
            raise UnknownName("schedule", name, self._images)
        return self._images[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)

    def _rows(self) -> list[dict]:
        return [
            {
                "schedule": name,
                "phase": phase.name,
                "trains": phase.train,
                "epochs": phase.epochs,
                "learning rate": phase.learning_rate,
            }
            for name, phases in self.items()
            for phase in phases
        ]

    def __repr__(self) -> str:
        return text_table(self._rows())

    def _repr_html_(self) -> str:
        return html_table(self._rows())


schedules = Schedules()
