"""Readers of scenes, one for each form: `find` knows it, `read` gives its entries."""
