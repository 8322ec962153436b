"""`graft train RECIPE ...`: the same as running the recipe's file.

Another package adds a recipe of its own as an entry point, a module with a `Config` and a `main`:

    [options.entry_points]
    graft.recipes =
        ordinal-size = ordinal_package
"""

import importlib
from collections.abc import Sequence
from importlib import metadata

from graft.zoo.errors import UnknownName

__all__ = ["GROUP", "RECIPES", "command", "find_recipe", "installed_recipes"]

RECIPES = {
    "image-classification": "a folder of photos -> a classifier",
    "multitask": "photos with several columns of answers -> one model for all of them",
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


def find_recipe(name: str) -> str:
    """The module of a recipe, ours or of another package.

    Raises:
        UnknownName: there is none; names the nearest.
    """
    if name in RECIPES:
        return f"graft.recipes.{name.replace('-', '_')}"
    installed = installed_recipes()
    if name not in installed:
        raise UnknownName("recipe", name, (*RECIPES, *installed))
    return installed[name].module


def command(arguments: Sequence[str]) -> int:
    """Read the recipe's Config from `arguments` and run it; 1 if its training diverged."""
    import tyro

    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: graft train RECIPE [OPTIONS]\n")
        for name, text in RECIPES.items():
            print(f"  {name:<22}  {text}")
        for name, entry in installed_recipes().items():
            print(f"  {name:<22}  of the package {entry.dist.name if entry.dist else entry.module}")
        print("\n`graft train RECIPE --help` explains the options of a recipe.")
        return 0
    name, *options = arguments
    recipe = importlib.import_module(find_recipe(name))
    folder = recipe.main(tyro.cli(recipe.Config, args=options, prog=f"graft train {name}"))

    from graft.recipes.runs.writing import exit_code

    return exit_code(folder)
