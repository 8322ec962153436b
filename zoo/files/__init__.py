"""Reading and writing files that may be damaged, hostile, or in use by another process."""
