"""What a store knows of its places without reading a pixel: dates, position, checksums."""

from pathlib import Path

import numpy as np

from timo.training.chips.layout import ROWS, TABLE, Layout, State, row_shape, shard_name
from timo.training.chips.shard import DamagedError, checksum, decode, encode, write_whole


class Table:
    """The rows of the first places of a store, one numpy array for each name of `layout.TABLE`.

    Parameters
    ----------
    path : Path
        The store.
    layout : Layout
        What all places have in common.
    columns : dict of str to array
        Name -> one row for each place.
    """

    def __init__(self, path: Path, layout: Layout, columns: dict[str, np.ndarray]) -> None:
        self.path, self.layout, self.columns = path, layout, columns

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns["crs"])

    @classmethod
    def read(cls, path: Path, layout: Layout, places: int) -> "Table":
        """Read the rows of the first `places`.

        Raises
        ------
        DamagedError
            If a file is missing or not as it was written.
        """
        names = TABLE
        return cls(path, layout, {name: _read(path, layout, name, places) for name in names})

    def add(self, rows: list[dict[str, np.ndarray]]) -> None:
        """Append rows, in memory."""
        for name, (dtype, _, _) in TABLE.items():
            new = np.array([row[name] for row in rows], dtype=dtype)
            self.columns[name] = np.concatenate([self.columns[name], new])

    def write(self, start: int) -> None:
        """Write the rows from `start` on; the rows before them in the same file stay as they are."""
        for name in TABLE:
            dims = 1 + len(row_shape(self.layout, name))
            for number in range(start // ROWS, -(-len(self) // ROWS)):
                rows = self.columns[name][number * ROWS : (number + 1) * ROWS]
                whole = np.zeros((ROWS, *rows.shape[1:]), rows.dtype)
                whole[: len(rows)] = rows
                write_whole(self.path / name / shard_name(number, dims), encode(whole))

    def checksums(self, state: State) -> tuple[int, ...]:
        """Checksum of each column, going on from those of the state's places."""
        return tuple(
            checksum(self.columns[name][state.places :].tobytes(), before)
            for name, before in zip(TABLE, state.table, strict=True)
        )

    def check(self, state: State) -> None:
        """Compare each column with its checksum.

        Raises
        ------
        DamagedError
            If one differs: a file of another time, or of another store, is whole in itself.
        """
        found = self.checksums(State())
        wrong = [name for name, a, b in zip(TABLE, found, state.table, strict=True) if a != b]
        if wrong:
            raise DamagedError(f"the files of '{wrong[0]}' are not those that belong to the store")


def _read(path: Path, layout: Layout, name: str, places: int) -> np.ndarray:
    row = row_shape(layout, name)
    column = np.empty((-(-places // ROWS) * ROWS, *row), TABLE[name][0])
    for start in range(0, places, ROWS):
        file = path / name / shard_name(start // ROWS, 1 + len(row))
        try:
            decode(file.read_bytes(), column[start : start + ROWS])
        except (FileNotFoundError, DamagedError) as error:
            what = str(error) if isinstance(error, DamagedError) else "it is missing"
            raise DamagedError(
                f"the chip store '{path}' is damaged, its file {name}/{file.name}: {what}. Restore the file from a "
                "copy, or remove the store and pack it anew"
            ) from error
    return column[:places]
