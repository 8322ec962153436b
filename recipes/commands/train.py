"""`graft train RECIPE ...`: the same as running the recipe's file."""

import importlib
from collections.abc import Sequence

from graft.zoo.errors import UnknownName

__all__ = ["RECIPES", "command"]

RECIPES = {
    "image-classification": "a folder of photos -> a classifier",
    "multitask": "photos with several columns of answers -> one model for all of them",
    "domain-adaptation": "labelled pictures, unlabelled ones of another kind -> a classifier for these",
    "semi-supervised": "a few labelled photos, many without labels -> a classifier",
    "self-supervised": "photos without labels -> a backbone that knows them better",
    "text-domain-adaptation": "labelled sentences, unlabelled ones of another kind -> a classifier for these",
    "text-classification": "sentences with labels, one or several -> a classifier",
    "token-classification": "words with tags (entities, slots) -> a tagger",
    "text-similarity": "sentences with labels -> vectors that are near where meanings are",
    "text-multitask": "sentences with an intent and slots -> one model for both",
    "pretrain-glyphs": "rendered characters -> the bundled backbone",
    "pretrain-text": "plain text and a larger encoder -> the bundled encoder",
}


def command(arguments: Sequence[str]) -> int:
    """Read the recipe's Config from `arguments` and run it; 1 if its training diverged."""
    import tyro

    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: graft train RECIPE [OPTIONS]\n")
        for name, text in RECIPES.items():
            print(f"  {name:<22}  {text}")
        print("\n`graft train RECIPE --help` explains the options of a recipe.")
        return 0
    name, *options = arguments
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    recipe = importlib.import_module(f"graft.recipes.{name.replace('-', '_')}")
    folder = recipe.main(tyro.cli(recipe.Config, args=options, prog=f"graft train {name}"))

    from graft.recipes.runs.writing import exit_code

    return exit_code(folder)
