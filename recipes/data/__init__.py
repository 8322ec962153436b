"""Data sets that need no download: what scikit-learn ships, and what is rendered on the fly."""
