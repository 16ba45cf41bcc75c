"""The account of a live run: virtual money on live prices, or a practice venue's; new or as a journal left it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smm_bt.analytics.journal import Journal
from smm_bt.app.live_resume import restore_paper, venue_state
from smm_bt.app.market_clock import MarketClock
from smm_bt.app.paper_orders import PaperOrders
from smm_bt.app.stop_signal import StopRequested
from smm_bt.errors import VenueError
from smm_bt.execution.ccxt_client import ApiKeys, TradingWire
from smm_bt.execution.ccxt_store import CcxtStore
from smm_bt.execution.costs import Costs
from smm_bt.execution.endpoints import PracticeVenue
from smm_bt.execution.instrument import Instrument
from smm_bt.execution.ledger import FuturesLedger
from smm_bt.execution.live_market import LiveMarket
from smm_bt.execution.paper_broker import PaperBroker
from smm_bt.execution.running_funding import FundingHistory, NoRunningFunding, RunningFunding
from smm_bt.execution.venue_client import MarketDataClient, VenueClient


@dataclass(frozen=True)
class LiveWiring:
    """What an account is wired to: symbols, the reader of prices, the venue's time, files of market rules.

    ``is_fresh`` says whether a position may still be opened on the candle that opened then; ``funding`` is where
    settlements inside a candle are looked up, None where the venue's clock stands between its candles.
    """

    symbols: tuple[str, ...]
    reader: MarketDataClient
    clock: MarketClock
    length_ms: int
    is_fresh: Callable[[int], bool]
    exchange_info: Path | None = None
    brackets: Path | None = None
    adopt: bool = False
    funding: FundingHistory | None = None


@dataclass
class LiveAccount:
    """A broker, what records it, and how it takes over what was open."""

    broker: Any
    paper: PaperOrders | None = None
    store: CcxtStore | None = None

    def held(self) -> list[str]:
        """Return the symbols with an open position."""
        return list(self.broker.ledger.positions)

    def openers(self) -> dict[str, str]:
        """Return the id of the order that opened it for every symbol with an open position."""
        return {symbol: position.entry_order_id for symbol, position in self.broker.ledger.positions.items()}

    def take_over(self, datas: Mapping[str, Any], strategy: Any) -> None:
        """Show positions of an earlier process to Backtrader, also while the venue is silent."""
        if self.paper is not None:
            self.broker.adopt_ledger(datas, strategy)
        else:
            self.broker.land()

    def failure(self) -> Exception | None:
        """Return what made the broker stop the run, if anything did."""
        problem: Exception | None = getattr(self.broker, "halted", None)
        return problem

    def land(self) -> Exception | None:
        """Book what the run was stopped in the middle of; return what makes the books wrong, if anything does."""
        if self.store is None:
            return None
        with suppress(StopRequested):  # the venue wants quiet for longer: nothing more can be learned now
            self.broker.land()
        unsettled = self.broker.unsettled
        if not unsettled:
            return None
        return VenueError(
            f"The run was stopped before it was known what became of {', '.join(unsettled)}; what is shown as open "
            "may be closed at the venue, and the other way round. A run started with --resume looks that up first."
        )

    def close(self) -> None:
        """Let go of the account."""
        if self.store is not None:
            self.store.close()


def paper_account(
    journal: Journal,
    instruments: Mapping[str, Instrument],
    costs: Costs,
    wiring: LiveWiring,
) -> LiveAccount:
    """Return a simulated account that stands where the journal says."""
    ledger = FuturesLedger(journal.record().initial_balance_usdt, instruments, costs=costs)
    restore_paper(journal, ledger)
    market = LiveMarket(wiring.reader, wiring.clock, wiring.length_ms, wiring.is_fresh)
    funding = NoRunningFunding() if wiring.funding is None else RunningFunding(wiring.funding, wiring.clock)
    broker = PaperBroker(ledger, market=market, funding=funding)
    return LiveAccount(broker, PaperOrders(journal, broker))


def venue_wallet(venue: PracticeVenue, keys: ApiKeys) -> float:
    """Return the practice account's wallet in USDT; refuses keys the venue does not know before anything is made."""
    return float(VenueClient(TradingWire(venue, keys, retries=2)).account().wallet_usdt)


def venue_account(
    journal: Journal,
    wiring: LiveWiring,
    venue: PracticeVenue,
    keys: ApiKeys,
    costs: Costs,
    *,
    unlimited: bool,
    resumed: bool,
    lock_folder: Path,
) -> LiveAccount:
    """Return an account at a practice venue, in step with it; limits and bans count per address, so does the budget."""
    wire: dict[str, Any] = {"budget": wiring.reader.wire.budget}
    if unlimited:
        wire["first_wait_s"] = 0.01
    store = CcxtStore(
        config={"apiKey": keys.key, "secret": keys.secret},
        venue=venue,
        symbols=wiring.symbols,
        run_id=journal.run_id(),
        recorder=journal,
        stop_loss=costs.stop_loss,
        resume=venue_state(journal) if resumed else None,
        adopt=wiring.adopt,
        is_fresh=wiring.is_fresh,
        lock_folder=lock_folder,
        wire_options=wire,
    )
    return LiveAccount(store.getbroker(), store=store)
