"""A class for each pixel: the kind of answer, its head, its loss, its figures."""
