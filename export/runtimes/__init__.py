"""The runtimes of the formats, behind one shape: a file, opened, that runs a batch."""
