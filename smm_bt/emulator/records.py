"""What the venue remembers: orders, conditional orders, trades, income; and how it is written down."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal
from typing import Any, Final

from smm_bt.emulator.exact import ZERO

LIQUIDATION_PREFIX: Final = "autoclose-"
OPEN_STATUSES: Final = frozenset({"NEW", "PARTIALLY_FILLED"})


@dataclass(slots=True)
class Order:
    """One order as the venue keeps it; quantities in the base asset, times in ms UTC."""

    order_id: int
    client_order_id: str
    symbol: str
    side: str
    position_side: str
    order_type: str
    time_in_force: str
    qty: Decimal
    price: Decimal
    reduce_only: bool
    close_position: bool
    time: int
    update_time: int
    status: str = "NEW"
    executed_qty: Decimal = ZERO
    cum_quote: Decimal = ZERO
    working_type: str = "CONTRACT_PRICE"
    orig_type: str = ""
    stop_price: Decimal = ZERO
    good_till_date: int = 0

    @property
    def sign(self) -> int:
        """+1 for a buy, −1 for a sell."""
        return 1 if self.side == "BUY" else -1

    @property
    def is_open(self) -> bool:
        """Whether the order can still be filled."""
        return self.status in OPEN_STATUSES

    @property
    def remaining(self) -> Decimal:
        """Quantity not filled yet."""
        return self.qty - self.executed_qty

    @property
    def average_price(self) -> Decimal:
        """Average fill price, zero before the first fill."""
        return self.cum_quote / self.executed_qty if self.executed_qty else ZERO


@dataclass(slots=True)
class AlgoOrder:
    """One conditional order of the Algo service."""

    algo_id: int
    client_algo_id: str
    symbol: str
    side: str
    position_side: str
    order_type: str
    time_in_force: str
    qty: Decimal
    price: Decimal
    trigger_price: Decimal
    working_type: str
    reduce_only: bool
    close_position: bool
    price_protect: bool
    create_time: int
    update_time: int
    status: str = "NEW"
    trigger_time: int = 0
    actual_order_id: int = 0
    actual_price: Decimal = ZERO
    actual_qty: Decimal = ZERO
    good_till_date: int = 0
    reject_reason: str = ""

    @property
    def sign(self) -> int:
        """+1 for a buy, −1 for a sell."""
        return 1 if self.side == "BUY" else -1

    @property
    def is_open(self) -> bool:
        """Whether it still waits for its trigger."""
        return self.status == "NEW"


@dataclass(frozen=True, slots=True)
class Trade:
    """One fill; commission and realised profit in USDT, exact."""

    trade_id: int
    order_id: int
    symbol: str
    side: str
    position_side: str
    price: Decimal
    qty: Decimal
    commission: Decimal
    realized_pnl: Decimal
    maker: bool
    time: int


@dataclass(frozen=True, slots=True)
class Income:
    """One change of the wallet, signed, in USDT."""

    tran_id: int
    symbol: str
    income_type: str
    amount: Decimal
    time: int
    trade_id: int


Record = Order | AlgoOrder | Trade | Income

# no name is a decimal in one record and something else in another
_EXACT_NAMES: Final = frozenset(
    item.name for kind in (Order, AlgoOrder, Trade, Income) for item in fields(kind) if item.type == "Decimal"
)


def to_row(record: Record) -> dict[str, Any]:
    """Return the record as JSON-ready values (decimals as text)."""
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in asdict(record).items()}


def from_row(kind: Callable[..., Record], row: dict[str, Any]) -> Record:
    """Rebuild a record from :func:`to_row`."""
    values = {name: Decimal(value) if name in _EXACT_NAMES else value for name, value in row.items()}
    return kind(**values)


@dataclass
class Archive:
    """All records of one account, with the indexes lookups need and the set of unsaved ones."""

    orders: dict[int, Order] = field(default_factory=dict)
    algos: dict[int, AlgoOrder] = field(default_factory=dict)
    trades: list[Trade] = field(default_factory=list)
    incomes: list[Income] = field(default_factory=list)
    open_orders: dict[int, Order] = field(default_factory=dict)
    open_algos: dict[int, AlgoOrder] = field(default_factory=dict)
    last_id: int = 0
    unsaved: dict[tuple[str, int], Record] = field(default_factory=dict)
    trades_of_order: dict[int, list[Trade]] = field(default_factory=dict)
    _order_by_client: dict[tuple[str, str], int] = field(default_factory=dict)
    _algo_by_client: dict[str, int] = field(default_factory=dict)

    def next_id(self) -> int:
        """Return the next number; orders, trades and transactions share one count."""
        self.last_id += 1
        return self.last_id

    def keep_order(self, order: Order) -> None:
        """Remember a new or changed order."""
        self.orders[order.order_id] = order
        self._order_by_client[order.symbol, order.client_order_id] = order.order_id
        if order.is_open:
            self.open_orders[order.order_id] = order
        else:
            self.open_orders.pop(order.order_id, None)
        self.unsaved["order", order.order_id] = order

    def keep_algo(self, algo: AlgoOrder) -> None:
        """Remember a new or changed conditional order."""
        self.algos[algo.algo_id] = algo
        self._algo_by_client[algo.client_algo_id] = algo.algo_id
        if algo.is_open:
            self.open_algos[algo.algo_id] = algo
        else:
            self.open_algos.pop(algo.algo_id, None)
        self.unsaved["algo", algo.algo_id] = algo

    def keep_trade(self, trade: Trade) -> None:
        """Remember a fill."""
        self.trades.append(trade)
        self.trades_of_order.setdefault(trade.order_id, []).append(trade)
        self.unsaved["trade", trade.trade_id] = trade

    def keep_income(self, income: Income) -> None:
        """Remember a wallet change."""
        self.incomes.append(income)
        self.unsaved["income", income.tran_id] = income

    def trades_since(self, start_ms: int | None) -> list[Trade]:
        """Return fills from a time on; they are kept in the order of their times."""
        if start_ms is None:
            return self.trades
        return self.trades[bisect_left(self.trades, start_ms, key=lambda trade: trade.time) :]

    def find_order(self, symbol: str, order_id: int | None, client_order_id: str | None) -> Order | None:
        """Look an order up by id or, failing that, by the latest use of a client id."""
        if order_id is None:
            order_id = self._order_by_client.get((symbol, client_order_id or ""))
        order = self.orders.get(order_id) if order_id is not None else None
        return order if order is not None and order.symbol == symbol else None

    def find_algo(self, algo_id: int | None, client_algo_id: str | None) -> AlgoOrder | None:
        """Look a conditional order up by id or by the latest use of a client id."""
        if algo_id is None:
            algo_id = self._algo_by_client.get(client_algo_id or "")
        return self.algos.get(algo_id) if algo_id is not None else None

    def open_of(self, symbol: str | None) -> list[Order]:
        """Return open orders, of one symbol or all."""
        return [order for order in self.open_orders.values() if symbol in (None, order.symbol)]

    def open_algos_of(self, symbol: str | None) -> list[AlgoOrder]:
        """Return waiting conditional orders, of one symbol or all."""
        return [algo for algo in self.open_algos.values() if symbol in (None, algo.symbol)]

    def restore(self, records: Iterable[Record]) -> None:
        """Take records back from a state file, in the order they were made."""
        for record in records:
            if isinstance(record, Order):
                self.keep_order(record)
            elif isinstance(record, AlgoOrder):
                self.keep_algo(record)
            elif isinstance(record, Trade):
                self.keep_trade(record)
            else:
                self.keep_income(record)
        self.unsaved.clear()
