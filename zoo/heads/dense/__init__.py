"""Answers that have places in an image: boxes and masks, and the figures that judge them."""
