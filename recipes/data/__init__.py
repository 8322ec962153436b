"""Records: examples as they lie on the disk, by split; what was read, left out and made."""
