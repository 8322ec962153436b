"""`python -m graft`, the same as `graft`."""

from graft.recipes.commands.__main__ import main

if __name__ == "__main__":
    main()
