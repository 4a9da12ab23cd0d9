"""Former classes of chips: each is `timo.training.Windows` of the one or the other kind of places."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from timo.checks import Count, PathLike, Seed, checked
from timo.errors import warn
from timo.places import ChipStore, Places, Split
from timo.training.windows import ChipOptions, WindowOptions, Windows


@checked
@dataclass(frozen=True)
class StoreOptions(WindowOptions):
    """Former options of windows of a store. Use `timo.training.WindowOptions`."""

    size: Count | None = None
    dates: tuple[Count, Count] = (6, 12)


class ChipDataset(Windows):
    """Chips of one labelled cube. Use `timo.training.Windows` of `timo.Places`."""

    @checked
    def __init__(
        self,
        cube: xr.DataArray,
        labels: xr.DataArray,
        length: Count,
        options: ChipOptions | None = None,
        seed: Seed = 0,
    ) -> None:
        warn(
            "ChipDataset is timo.training.Windows(timo.Places([(cube, labels)])) now.",
            DeprecationWarning,
        )
        super().__init__(Places([(cube.compute(), labels)]), length, options, seed)

    @checked
    def within(
        self, area: np.ndarray | xr.DataArray, length: Count, options: ChipOptions
    ) -> Windows:
        """Return windows with the labels of an area, (y, x) bool, alone."""
        split = Split([np.where(np.asarray(area), 0, -1).astype("int8")])
        return Windows(self.places, length, options, self.seed, split=split, part=0)


class StoreDataset(Windows):
    """Chips of a store. Use `timo.training.Windows` of `timo.Places.from_store`."""

    @checked
    def __init__(
        self,
        store: ChipStore | PathLike,
        length: Count | None = None,
        options: WindowOptions | None = None,
        seed: Seed = 0,
    ) -> None:
        warn(
            "StoreDataset is timo.training.Windows(timo.Places.from_store(path)) now.",
            DeprecationWarning,
        )
        self.store = store if isinstance(store, ChipStore) else ChipStore(store)
        places: Any = Places.from_store(self.store.path)
        super().__init__(places, length, options or StoreOptions(), seed, labelled=False)
