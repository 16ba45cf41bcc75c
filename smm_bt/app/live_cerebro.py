"""LiveCerebro: a Cerebro whose broker sleeps while history goes by."""

from __future__ import annotations

from typing import Any

import backtrader as bt

from smm_bt.app.candle_release import CandleRelease


class LiveCerebro(bt.Cerebro):
    """Keeps one bar of each line only, hands order news out at once, and leaves the broker alone during warm-up."""

    params: Any = (("stdstats", False), ("quicknotify", True), ("exactbars", 1), ("release", None))

    def _brokernotify(self) -> None:
        release: CandleRelease = self.p.release
        if not release.warming:
            super()._brokernotify()


def live_cerebro(release: CandleRelease) -> Any:
    """Return a LiveCerebro; backtrader's metaclass turns the keywords into parameters, which no type knows."""
    made: Any = LiveCerebro
    return made(release=release)
