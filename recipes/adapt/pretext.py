"""What a backbone knows of images without labels, before and after it has learned from them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.recipes.adapt import gallery
from graft.recipes.adapt.domains import Pile
from graft.recipes.codecs.augmentation import MIXERS
from graft.recipes.codecs.images import Images
from graft.recipes.data import reading
from graft.recipes.feed import pipeline
from graft.recipes.report.run_file import SCHEMA
from graft.recipes.runs import divergence, run_facts, writing
from graft.recipes.tasks.task import Task
from graft.recipes.train import fit
from graft.recipes.train.fit import Trained
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ConfigError
from graft.zoo.files.staging import staged_file
from graft.zoo.files.writing import write_text
from graft.zoo.graph.stack import FEATURES, backbone_of

if TYPE_CHECKING:
    import keras

__all__ = [
    "check",
    "check_head",
    "check_reach",
    "compared",
    "facts_of",
    "features",
    "figures",
    "write",
]

TEMPERATURES = (1e-4, 1e4)
"""Below the first a softmax in float32 sees the nearest pair alone, above the last all pairs
alike.
"""
SEED = 1
"""Of the random changes by which models are compared; those of the validation loss have another."""
LARGEST = 512
"""Validation images among which the other version is to be found."""
PROBED = 2000
"""Images, at most, whose nearest neighbours are asked for their label: each is compared with
each.
"""


def check(settings: FitSettings) -> None:
    """Refuse what pairs of versions cannot be trained with.

    Raises:
        ConfigError: names the option.
    """
    if not settings.augment or settings.batch_size < 2:
        raise ConfigError(
            "pairs of versions are compared: name some --augment, and a --batch-size of 2 or more"
        )
    mixer = next((name for name in settings.augment if name in MIXERS), None)
    if mixer is not None:
        raise ConfigError(
            f"--augment {mixer} joins two images, and pairs are versions of one: leave it out"
        )
    # A batch is all first versions and then all second ones: each device would get one half of
    # every pair.
    for option in ("multi_gpu", "mixed_precision", "class_weights"):
        settings.refuse(option, "pairs of versions")
    if settings.cache != "off" and settings.caching != FitSettings().caching:
        raise ConfigError(
            "pairs of versions are made anew in each step and never cached: leave the --cache "
            "options away"
        )


def check_head(dimension: int, temperature: float) -> None:
    """Refuse a projection or a loss by which nothing could be learned.

    Args:
        dimension: numbers in a projected vector.
        temperature: that of the loss.

    Raises:
        ConfigError: names the option.
    """
    # A vector of one number has length 1 whatever the number is: it has no gradient.
    if dimension < 2:
        raise ConfigError(f"--dimension is 2 numbers or more, not {dimension}")
    least, most = TEMPERATURES
    if not least <= temperature <= most:
        raise ConfigError(
            "the temperature of a contrastive loss must be a number above 0, "
            f"from {least:g} to {most:g}, not {temperature:g}"
        )


def check_reach(phases: Sequence[Phase]) -> None:
    """Refuse a schedule that would leave the backbone as it is.

    Raises:
        ConfigError: only the head trains.
    """
    if all(phase.train == "head" for phase in phases):
        raise ConfigError(
            "the backbone learns from pairs of versions: take a --schedule that trains more than "
            "the head"
        )


def features(model: "keras.Model", images: Images) -> np.ndarray:
    """The pooled features of all images, `(n, width)`."""
    import keras

    return fit.predict(keras.Model(model.input, model.get_layer(FEATURES).output), images)[0]


def figures(
    model: "keras.Model", images: Mapping[str, Images], task: Task, settings: FitSettings
) -> dict[str, float]:
    """ "pairs": how often, of two changed versions of each validation image, the second is the
    nearest to the first among all second ones; "probe": where labels are known, how often nearest
    neighbours share it, among PROBED images at most.
    """
    from sklearn.preprocessing import normalize

    from graft.recipes.adapt.transferability import knn_accuracy

    validation = images["validation"]
    count = min(len(validation), LARGEST)
    order = pipeline.Order(count, count, SEED)
    ((pixels, _),) = pipeline.paired_batches(validation, order, settings.augment)
    rows = features(model, Images(np.asarray(pixels), {}, ("",) * 2 * count))
    rows = normalize(rows)
    first, second = rows[:count], rows[count:]
    found = {"pairs": float(np.mean((first @ second.T).argmax(-1) == np.arange(count)))}
    if task.labels:
        everything = images["all"]
        rows = np.sort(np.random.default_rng(SEED).permutation(len(everything))[:PROBED])
        some = everything.take(rows)
        found["probe"] = knn_accuracy(features(model, some), some.targets[task.name].argmax(-1))
    return found


def facts_of(
    config: Any, backbone: Any, model: "keras.Model", trained: Trained, described: Sequence[Mapping]
) -> dict:
    """What run.json says of a training on pairs.

    Args:
        config: of the recipe.
        backbone: that learned.
        model: with its weights.
        trained: the training.
        described: the phases.
    """
    return {
        "schema": SCHEMA,
        "recipe": "self-supervised",
        "modality": "image",
        "tasks": {},
        **run_facts.environment(),
        "config": run_facts.plain(config),
        **run_facts.shipped(trained, config.schedule, described),
        "backbone": backbone.describe(model),
        "trainings": divergence.trainings({"self-supervised": [trained]}),
    }


def write(
    folder: Path,
    model: "keras.Model",
    pile: Pile,
    images: Mapping[str, Images],
    facts: dict,
    trained: Trained,
) -> None:
    """Write the run: the backbone, run.json, and what it makes of the images.

    Args:
        folder: of the run.
        model: with the weights that ship.
        pile: what was learned from.
        images: "all" of them.
        facts: for run.json.
        trained: the training.
    """
    everything, config = images["all"], facts["config"]
    seen = gallery.look(features(model, everything), config["clusters"], config["seed"])
    facts = facts | {
        "data": {
            "source": config["data"],
            "fingerprint": pile.fingerprint,
            "images": len(everything),
            "skipped": list(everything.skipped),
            **reading.record(pile, {"all": everything}),
        },
        "clusters": {"count": len(seen.typical), "silhouette": seen.silhouette},
    }
    facts |= run_facts.concerns(facts, {}, [])
    with staged_file(folder / "backbone.keras") as path:
        backbone_of(model).save(path)
    writing.write_history(folder, trained.history)
    gallery.write(folder, seen, everything, facts, config["seed"])
    write_text(folder / "run.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def compared(
    before: Mapping[str, float], after: Mapping[str, float], images: Mapping[str, Images]
) -> dict:
    """The same as facts of a run, with a sentence."""
    pairs = {
        "before": before["pairs"],
        "after": after["pairs"],
        "count": min(len(images["validation"]), LARGEST),
    }
    said = f"The second version of an image is found in {_change(before, after, 'pairs')}."
    probe = None
    if "probe" in after:
        probe = {"before": before["probe"], "after": after["probe"]}
        said += (
            f" Nearest neighbours share the label in {_change(before, after, 'probe')} (one seed)."
        )
    return {"pairs": pairs, "probe": probe, "said": said}


def _change(before: Mapping[str, float], after: Mapping[str, float], name: str) -> str:
    return f"{100 * after[name]:.1f} % of cases, {100 * before[name]:.1f} % before"
