"""Training from Python: the recipes, called as functions."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.arguments import recipe_options
from graft.beside import kept_beside
from graft.shown import Rows, html_table, text_table
from graft.zoo.errors import ConfigError

if TYPE_CHECKING:
    from graft.files import Exported, Model

__all__ = ["Run", "train"]


class Run:
    """A finished training: a folder with the model, run.json and a report.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.content  # noqa: B018 (refuses what is no run)

    @cached_property
    def content(self) -> dict:
        """run.json: figures, settings, verdict, history."""
        from graft.recipes.report.run_file import read_run

        return dict(read_run(self.path))

    @property
    def metrics(self) -> dict:
        """The figures on the test split, as `graft evaluate` tells them; of a backbone that learned
        without labels what it knows of images, before and after.
        """
        if self._measured:
            return self.content["metrics"]["test"]
        return {name: self.content[name] for name in ("pairs", "probe") if self.content.get(name)}

    @property
    def _measured(self) -> bool:
        """Whether there are figures of tasks on a test split."""
        return bool((self.content.get("metrics") or {}).get("test"))

    @property
    def history(self) -> Rows:
        """history.csv: a row an epoch, with all that was watched."""
        import csv

        with (self.path / "history.csv").open(newline="", encoding="utf-8") as file:
            return Rows(csv.DictReader(file))

    @property
    def verdict(self) -> str | None:
        """What transfer gained over training from scratch, in words; None: it was not compared."""
        found = self.content.get("verdict")
        return found and found["text"]

    def report(self) -> Path:
        """The page that shows it."""
        return self.path / "report.html"

    def export(self, out: Path | str | None = None, **options: Any) -> "Exported":
        """As `graft.export`."""
        from graft.files import export

        return export(self, out, **options)

    def load(self) -> "Model":
        """The trained model, to predict with."""
        from graft.files import load

        return load(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    def _rows(self) -> list[dict]:
        from graft.recipes.report.run_file import figures_by_task

        if not self._measured:
            return [
                {"figure": name, "before": found["before"], "after": found["after"]}
                for name, found in self.metrics.items()
            ]
        measured = figures_by_task(self.metrics["tasks"])
        judged = [facts["figure"] for facts in self.content["tasks"].values()]
        return [
            {
                "task": name or figure["name"],
                "figure": figure["name"],
                "test": figures[figure["key"]],
                "examples": figures["examples"],
            }
            for (name, figures), figure in zip(measured.items(), judged, strict=True)
        ]

    def __repr__(self) -> str:
        lines = [f"Run '{self.path}'", text_table(self._rows()), self._said]
        return "\n".join(filter(None, [*lines, f"report: {self.report()}"]))

    @property
    def _said(self) -> str:
        """The outcome in words, where there are any."""
        return self.verdict or self.content.get("said") or ""

    def _repr_html_(self) -> str:
        from html import escape

        verdict = f"<p>{escape(self._said)}</p>" if self._said else ""
        return (
            f"<p>Run <code>{escape(str(self.path))}</code></p>{html_table(self._rows())}{verdict}"
            f'<p><a href="{escape(self.report().as_posix(), quote=True)}">report</a></p>'
        )


def train(
    recipe: str = "image-classification",
    *,
    data: Any,
    out: Path | str,
    labels: Sequence[str] | None = None,
    **options: Any,
) -> Run:
    """Train as `graft train RECIPE` does.

    Args:
        recipe: its name; `graft train --help` lists them.
        data: as for the command (a folder, a table, shards, an address, `tfds:NAME`,
            `hf:NAME`, a built-in name); or in memory
            `(inputs, labels)`, a `tf.data.Dataset` of such pairs, or a dict of them by split, which
            are written to the folder `OUT-data` first: see `graft.recipes.data.given.write_given`.
            What is there is replaced only if Graft wrote it.
        out: the run folder to make.
        labels: of data in memory the names of labels that are numbers.
        **options: the options of the recipe by their names, as `backbone="mobilenet_v3_small"`,
            `epochs=10`, `batch_size=16`, `compare_scratch=True`. A Keras model as `backbone` is
            saved first, as `OUT-backbone.keras`.

    Returns:
        The run. It is there already if an interrupted training was resumed after its end.

    Raises:
        GraftError: whatever the command would refuse, in the same words; nothing is half-written.
    """
    from graft.recipes.runs.recipes import load_recipe

    if not isinstance(recipe, str):
        raise ConfigError(
            "graft.train takes the name of a recipe; a model of your own goes in as its backbone: "
            f'graft.train("image-classification", backbone=model, ...): got {type(recipe).__name__}'
        )
    module = load_recipe(recipe)
    place = Path(out)
    given = recipe_options(module.Config, recipe, options)
    if "data" not in {field.name for field in dataclasses.fields(module.Config)}:
        raise ConfigError(f"the recipe '{recipe}' takes no data=: run it as `graft train {recipe}`")
    if labels is not None and isinstance(data, str | Path):
        raise ConfigError(
            "labels= names the numbers of data in memory: a folder or a table has names"
        )
    in_memory: dict[Path, Callable[[Path], Any]] = {}
    if not isinstance(data, str | Path):
        from graft.recipes.data.given import TABLE, write_given

        folder = place.with_name(f"{place.name}-data")
        in_memory[folder] = functools.partial(write_given, data, labels=labels)
        data = folder / TABLE
    if "backbone" in given:
        model, file = given["backbone"], place.with_name(f"{place.name}-backbone.keras")
        if not isinstance(model, str | Path):
            in_memory[file] = _saving(model)
        given["backbone"] = str(model if isinstance(model, str | Path) else file)
    config = module.Config(data=str(data), out=place, **given)
    if not in_memory:
        return Run(module.main(config))
    with kept_beside(config, in_memory):
        return Run(module.main(config))


def _saving(model: Any) -> Callable[[Path], Any]:
    """What saves a Keras model as a file.

    Raises:
        ConfigError: it is none.
    """
    if not hasattr(model, "save"):
        raise ConfigError(
            f"backbone= is a name of graft.zoo(), a .keras file or a Keras model: got {model!r}"
        )
    return model.save
