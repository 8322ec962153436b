"""The recipes by name: our own, and those of other packages, each a module with a `Config` and a
`main`. Another package adds one as an entry point:

    [options.entry_points]
    graft.recipes =
        ordinal-size = ordinal_package
"""

import importlib
from importlib import metadata
from types import ModuleType

from graft.zoo.errors import UnknownName

__all__ = ["GROUP", "RECIPES", "installed_recipes", "load_recipe"]

RECIPES = {
    "image-classification": "a folder of photos -> a classifier",
    "multitask": "photos with several columns of answers -> one model for all of them",
    "object-detection": "photos with boxes -> a detector",
    "segmentation": "photos with masks -> a class for each pixel",
    "domain-adaptation": (
        "labelled images, unlabelled ones of another kind -> a classifier for these"
    ),
    "semi-supervised": "a few labelled photos, many without labels -> a classifier",
    "self-supervised": "photos without labels -> a backbone that knows them better",
    "text-domain-adaptation": (
        "labelled sentences, unlabelled ones of another kind -> a classifier for these"
    ),
    "text-classification": "sentences with labels, one or several -> a classifier",
    "token-classification": "words with tags (entities, slots) -> a tagger",
    "text-similarity": "sentences with labels -> vectors that are near where meanings are",
    "text-multitask": "sentences with an intent and slots -> one model for both",
    "pretrain-glyphs": "rendered characters -> the bundled backbone",
    "pretrain-text": "plain text and a larger encoder -> the bundled encoder",
}


GROUP = "graft.recipes"


def installed_recipes() -> dict[str, metadata.EntryPoint]:
    """The recipes of other packages, by name."""
    return {entry.name: entry for entry in metadata.entry_points(group=GROUP)}


def load_recipe(name: str) -> ModuleType:
    """The module of a recipe, ours or of another package.

    Raises:
        UnknownName: there is none; names the nearest.
    """
    if name in RECIPES:
        return importlib.import_module(f"graft.recipes.{name.replace('-', '_')}")
    installed = installed_recipes()
    if name not in installed:
        raise UnknownName("recipe", name, (*RECIPES, *installed))
    return importlib.import_module(installed[name].module)
