"""For which symbols of a live run the market has no funding rates: what the report must say about it."""

from __future__ import annotations

from collections.abc import Sequence

from smm_bt.app.live_market_source import MarketChoice, MarketSource


def symbols_without_funding(choice: MarketChoice, symbols: Sequence[str], source: MarketSource) -> tuple[str, ...]:
    """Return the symbols whose positions will neither pay nor receive funding, as far as that is known at the start.

    Binance and its demo venue settle every perpetual contract. An embedded exchange started for the run settles what
    it was given a funding file of, by the file's name; one that was found running is asked for past settlements.
    """
    if source.embedded is None:
        return ()
    if not choice.address:
        given = {path.name.partition("-")[0] for path in choice.funding}
        return tuple(symbol for symbol in symbols if symbol not in given)
    reader = source.readers(1)[0]
    return tuple(symbol for symbol in symbols if not reader.has_settled_funding(symbol))
