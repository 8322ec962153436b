"""How a model becomes files, and how those files are opened, measured and described."""
