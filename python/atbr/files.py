"""What can go wrong with the content of a file."""

from __future__ import annotations

from atbr._core import LoadReport


class LoadError(ValueError):
    r"""A row of a file cannot be loaded: it has no tab, or its key or value is over the limits.

    Exactly the rows before it are in the store; `report` counts them.

    Attributes:
        file: The path that was given to `load`.
        line: Line number, from 1.
        byte_offset: Where the row begins in the file, in bytes from 0.
        report: What had been loaded by then.

    >>> import atbr
    >>> with open("broken.tsv", "w") as file:
    ...     _ = file.write("a\t1\nb\n")
    >>> store = atbr.Store()
    >>> try:
    ...     store.load("broken.tsv")
    ... except atbr.LoadError as error:
    ...     print(error.line, error.byte_offset, error.report.rows, dict(store))
    2 4 1 {'a': '1'}

    """

    file: str
    line: int
    byte_offset: int
    report: LoadReport

    def __init__(
        self, message: str, file: str, line: int, byte_offset: int, report: LoadReport
    ) -> None:
        super().__init__(message)
        self.file = file
        self.line = line
        self.byte_offset = byte_offset
        self.report = report
