"""`graft train RECIPE ...`: the same as running the recipe's file."""

from collections.abc import Sequence

from graft.recipes.runs.recipes import RECIPES, installed_recipes, load_recipe
from graft.zoo.terminal import say

__all__ = ["command"]


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
    recipe = load_recipe(name)
    config = tyro.cli(recipe.Config, args=options, prog=f"graft train {name}")
    if hasattr(config, "data"):
        say(f"reading '{config.data}'")
    folder = recipe.main(config)

    from graft.recipes.runs.writing import exit_code

    return exit_code(folder)
