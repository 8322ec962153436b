"""`python -m recipes` is the same as `graft`."""

from recipes.commands.__main__ import main

main()
