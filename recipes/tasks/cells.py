"""Cells of a table with a column for each task, as tasks read them."""

from dataclasses import dataclass

from graft.recipes.data.reading import Tally
from graft.recipes.data.tables.cells import MISSING, read_cell
from graft.recipes.data.tables.columns import TableRow
from graft.zoo.errors import DataError

__all__ = ["Cell", "Column", "is_no_label", "is_no_number", "one_value"]


@dataclass(frozen=True)
class Column:
    """One thing to learn of a table.

    Attributes:
        name: of the output in every exported file.
        column: of the table.
        kind: of the answer, by its name.
        weight: what its loss counts.
        dropout: before the head.
    """

    name: str
    column: str
    kind: str
    weight: float = 1.0
    dropout: float = 0.0


@dataclass(frozen=True)
class Cell:
    """A cell of a table with a column for each task.

    Attributes:
        row: where it is.
        task, column: what is asked in it.
        tally: counts what is read otherwise than it is written.
    """

    row: TableRow
    task: str
    column: str
    tally: Tally

    @property
    def where(self) -> str:
        """For messages."""
        return f"'{self.row.path}', {self.row.place}, column '{self.column}'"


def is_no_number(cell: Cell) -> bool:
    """Whether a cell says "nan" or the like."""
    return str(cell.row[cell.column]).strip().lower() in MISSING


def is_no_label(cell: Cell) -> bool:
    """The same where it may be a label, and is one in JSON lines; it is noted."""
    if not is_no_number(cell) or cell.row.is_typed:
        return False
    note = f"'nan' in the column '{cell.column}' is read as an answer that is not known"
    cell.tally.note(note, cell.row.place)
    return True


def one_value(cell: Cell, hint: str = "") -> str:
    """The text of a cell with one answer.

    Raises:
        DataError: it holds several; `hint` says what to do.
    """
    value = read_cell(cell.row, cell.column)
    if isinstance(value, list) and len(value) > 1:
        raise DataError(
            f"{cell.where}: a list of {len(value)}, expected one answer to task '{cell.task}'{hint}"
        )
    return value[0] if isinstance(value, list) else value
