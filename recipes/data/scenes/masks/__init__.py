"""Masks: which class each pixel of an image shows."""
