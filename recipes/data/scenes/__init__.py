"""Scenes: one image each with what is drawn on it, boxes or a mask. No tensors."""
