"""How far the fetching of a cube is, as a bar with words."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

import ipywidgets

# Seconds over which the pace is taken: what was in the cache comes in no time, and says nothing of the rest.
_PACE_S = 20.0


class FetchBar(ipywidgets.HTML):
    """A bar with its share and the time to go; hidden while nothing is fetched.

    It is HTML's own element for progress, whose share screen readers tell when they come to it.

    Parameters
    ----------
    clock : callable
        Seconds; for tests.

    Attributes
    ----------
    share : float
        How much is there, 0..1; NaN while it is hidden.
    text : str
        What stands beside the bar, without mark-up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: deque[tuple[float, float]] = deque()
        self.hide()

    def show(self, share: float) -> None:
        """Show that so much is there, 0..1."""
        now = self._clock()
        self._seen.append((now, share))
        while len(self._seen) > 2 and self._seen[1][0] < now - _PACE_S:
            self._seen.popleft()
        self.share, self.text = share, self._words(share)
        percent = math.floor(100 * share)
        self.value = (
            '<div style="display:flex;flex-flow:row wrap;align-items:center;gap:2px 8px;line-height:1.4">'
            f'<span>Fetching</span><progress max="100" value="{percent}" aria-label="Fetching the pixels" '
            f'aria-valuetext="{self.text}" style="flex:1 1 120px;min-width:80px;height:14px;'
            f'accent-color:var(--jp-brand-color1,#1976d2)"></progress><span>{self.text}</span></div>'
        )
        self.layout.display = None

    def hide(self) -> None:
        """Show nothing, and forget the pace."""
        self._seen.clear()
        self.share, self.text, self.value = math.nan, "", ""
        self.layout.display = "none"

    def _words(self, share: float) -> str:
        left = about(self._left(share))
        return f"{math.floor(100 * share)} %" + (f", {left} to go" if left else "")

    def _left(self, share: float) -> float:
        """Seconds to go at the pace of late; NaN where there is none yet."""
        began, first = self._seen[0]
        if share <= first:
            return math.nan
        return (1 - share) * (self._clock() - began) / (share - first)


def about(seconds: float) -> str:
    """A time that is only roughly known, as a person says it: about 20 s, about 3 min, about 1 h 10 min; "" for NaN."""
    if not math.isfinite(seconds):
        return ""
    if seconds < 55:
        return f"about {max(5 * math.ceil(seconds / 5), 5)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {max(minutes, 1)} min"
    return f"about {minutes // 60} h {10 * (minutes % 60 // 10)} min".replace(" 0 min", "")
