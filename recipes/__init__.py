"""How models are trained: one file is one runnable recipe, read from top to bottom."""

if __name__ != "graft.recipes":
    raise ImportError(
        "`recipes` is called `graft.recipes` now: write `from graft.recipes import ...`"
    )
