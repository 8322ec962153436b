"""How a model becomes files, and how those files are opened, measured and described."""

if __name__ != "graft.export":
    raise ImportError("`export` is called `graft.export` now: write `from graft.export import ...`")
