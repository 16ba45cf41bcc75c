"""Which candles the bars of a feed are made of, where a filter, a cut or a resampling stands between them."""

from __future__ import annotations

from typing import Any

import backtrader as bt
import numpy as np

from feeds.bt_time import to_backtrader_array
from feeds.candles import Candles


class BarRows:
    """Finds the candles of a feed's current bar by its stamp.

    A filter may leave candles out; a bar then still is one candle and carries its close time. A resampled bar holds
    every candle that closed after the stamp of the bar before it, up to its own stamp.

    Args:
        feed: a Backtrader feed that has been started.
        candles: what it reads.

    Raises:
        ValueError: the feed's bars cannot be traced back to its candles.
    """

    def __init__(self, feed: Any, candles: Candles) -> None:
        if feed.replaying:
            raise ValueError(
                f"{feed._name} is replayed: a bar of it changes after it has begun and is no fixed number of candles; "
                "resample the feed instead."
            )
        if feed.resampling and not _plainly_resampled(feed):
            raise ValueError(
                f"{feed._name} is resampled in a way that does not tell which candles a bar is made of; resample it "
                "without other filters and with Backtrader's own rightedge=True and boundoff=0."
            )
        self._feed = feed
        self._stamps = to_backtrader_array(candles.open_ms + candles.timeframe_ms)
        self._first = int(np.searchsorted(self._stamps, feed.fromdate))

    def current(self) -> tuple[int, int]:
        """Return the rows of the first and the last candle of the current bar.

        Raises:
            ValueError: no candle belongs to this bar; a filter has made it up.
        """
        feed = self._feed
        stamp = feed.lines.datetime[0]
        if feed.resampling:
            first = self._first
            if len(feed) > 1:
                first = max(first, int(np.searchsorted(self._stamps, feed.lines.datetime[-1], side="right")))
            last = int(np.searchsorted(self._stamps, stamp, side="right")) - 1
        else:
            first = last = int(np.searchsorted(self._stamps, stamp))
        if first > last or last >= len(self._stamps) or (not feed.resampling and self._stamps[last] != stamp):
            raise ValueError(
                f"{feed._name}: its bar of {bt.num2date(stamp)} UTC is made of none of its candles; use a filter that "
                "leaves bars out but makes no new ones."
            )
        return first, last


def _plainly_resampled(feed: Any) -> bool:
    """Whether a Resampler is the feed's only filter and stamps its bars with their right edge."""
    if len(feed._filters) != 1:
        return False
    resampler = feed._filters[0][0]
    return isinstance(resampler, bt.resamplerfilter.Resampler) and resampler.p.rightedge and not resampler.p.boundoff
