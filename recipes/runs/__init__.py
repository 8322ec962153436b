"""A run: its folder, from the data to the report, and how it is read again."""
