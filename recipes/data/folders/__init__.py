"""Folders of images: which files are read, and which folders are splits and which are classes."""
