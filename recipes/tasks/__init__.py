"""Kinds of answers: what is learned, how it is measured and compared."""
