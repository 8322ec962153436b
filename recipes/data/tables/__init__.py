"""Tables: CSV, TSV and JSON lines, read so that a message can name the line and the column.

What a person would reasonably mean is read, and noted in a `Tally`: another delimiter than the
ending says, a column called `Path`. A row that is shorter or longer than the header is refused:
nobody knows what its cells are.
"""
