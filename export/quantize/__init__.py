"""Smaller files: which one to ship, and how each format is made of 8 or 16 bits."""
