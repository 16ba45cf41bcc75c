"""Order kinds and lists: time in force, stop limits, mark triggers, close-all orders, history and its paging."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from emulator_kit import FIVE_MINUTES_MS, NO_LIMITS, START_MS, BareClient, flat, write_candles

from smm_bt.emulator import EmulatorConfig, EmulatorThread

ORDER = "/fapi/v1/order"
ALGO = "/fapi/v1/algoOrder"
DIP = [*flat(50000, 2), (50000, 50100, 49000, 49900), *flat(49900, 3)]
Venue = tuple[EmulatorThread, BareClient]


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[Callable[..., Venue]]:
    with ExitStack() as stack:

        def start(rows: list[Any], **config: Any) -> Venue:
            files = (write_candles(tmp_path, rows),)
            settings = {"candles": files, "history_candles": 1} | NO_LIMITS | config
            emulator = stack.enter_context(EmulatorThread(EmulatorConfig(**settings)))
            return emulator, stack.enter_context(BareClient(emulator))

        yield start


def limit(client: BareClient, price: str, in_force: str = "GTC", side: str = "BUY", **more: Any) -> dict[str, Any]:
    parameters = {"symbol": "BTCUSDT", "side": side, "type": "LIMIT", "quantity": "0.1", "price": price} | more
    answer = client.send("POST", ORDER, timeInForce=in_force, newOrderRespType="RESULT", **parameters)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def conditional(client: BareClient, kind: str, trigger: str, **more: Any) -> dict[str, Any]:
    parameters = {"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.1", "triggerPrice": trigger} | more
    answer = client.send("POST", ALGO, algoType="CONDITIONAL", type=kind, **parameters)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def state(client: BareClient, order: dict[str, Any]) -> str:
    return str(client.send("GET", ORDER, symbol="BTCUSDT", orderId=order["orderId"]).json()["status"])


def algo_state(client: BareClient, algo: dict[str, Any]) -> str:
    return str(client.send("GET", ALGO, algoId=algo["algoId"]).json()["algoStatus"])


def test_orders_that_may_not_rest_fill_or_expire_at_once(venue: Callable[..., Venue]) -> None:
    _, client = venue(flat(50000, 3))
    assert limit(client, "50100", "IOC")["status"] == "FILLED"
    assert limit(client, "49900", "IOC")["status"] == "EXPIRED"
    assert limit(client, "50100", "FOK")["status"] == "FILLED"
    assert limit(client, "49900", "GTX")["status"] == "NEW"


def test_a_marketable_limit_order_fills_at_the_better_market_price(venue: Callable[..., Venue]) -> None:
    _, client = venue(flat(50000, 3))
    assert limit(client, "50500")["avgPrice"] == "50000"


def test_a_good_till_date_order_expires_in_time(venue: Callable[..., Venue]) -> None:
    emulator, client = venue(flat(50000, 5))
    order = limit(client, "48000", "GTD", goodTillDate=START_MS + 3 * FIVE_MINUTES_MS - 10)
    emulator.step()
    assert state(client, order) == "NEW"
    emulator.step()
    assert state(client, order) == "EXPIRED"


def test_an_acknowledgement_tells_the_state_before_the_fill(venue: Callable[..., Venue]) -> None:
    _, client = venue(flat(50000, 3))
    answer = client.order("BUY", "0.1", newClientOrderId="a")
    acknowledged = client.send("POST", ORDER, symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.1").json()
    assert (answer.json()["status"], acknowledged["status"], acknowledged["executedQty"]) == ("FILLED", "NEW", "0")
    assert state(client, acknowledged) == "FILLED"


def test_a_dry_run_checks_an_order_and_places_none(venue: Callable[..., Venue]) -> None:
    emulator, client = venue(flat(50000, 3))
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET"}
    assert client.send("POST", "/fapi/v1/order/test", quantity="0.1", **order).status_code == 200
    assert client.code("POST", "/fapi/v1/order/test", quantity="9", **order) == -2019
    assert emulator.ledger()["orders"] == []


def test_a_resting_reduce_only_order_expires_when_there_is_nothing_left_to_reduce(venue: Callable[..., Venue]) -> None:
    emulator, client = venue(DIP)
    client.order("SELL", "0.1")
    order = limit(client, "49500", reduceOnly="true")
    client.order("BUY", "0.1", reduceOnly="true")
    emulator.step(2)
    assert state(client, order) == "EXPIRED"
    assert emulator.ledger()["positions"] == []


def test_a_stop_limit_becomes_a_resting_order_at_its_trigger(venue: Callable[..., Venue]) -> None:
    emulator, client = venue([*DIP[:3], (49900, 50200, 49800, 50000), *flat(50000, 2)])
    client.order("BUY", "0.1")
    algo = conditional(client, "STOP", "49500", price="50150", reduceOnly="true")
    emulator.step(2)
    assert algo_state(client, algo) == "FINISHED"
    child = client.send("GET", "/fapi/v1/openOrders", symbol="BTCUSDT").json()[0]
    assert (child["type"], child["origType"], child["price"], child["clientOrderId"]) == (
        "LIMIT",
        "STOP",
        "50150",
        algo["clientAlgoId"],
    )
    emulator.step()
    assert state(client, child) == "FILLED"


def test_a_stop_limit_within_reach_fills_at_its_trigger_and_one_out_of_reach_waits_for_the_next_candle(
    venue: Callable[..., Venue],
) -> None:
    emulator, client = venue([*DIP[:3], (49900, 50000, 49800, 49900), *flat(49900, 2)])
    client.order("BUY", "0.2")
    within = conditional(client, "STOP", "49500", price="49400", reduceOnly="true")
    beyond = conditional(client, "STOP", "49500", price="49950", reduceOnly="true")
    emulator.step(2)
    assert client.send("GET", ALGO, algoId=within["algoId"]).json()["actualPrice"] == "49500"
    child = client.send("GET", ORDER, symbol="BTCUSDT", origClientOrderId=beyond["clientAlgoId"]).json()
    assert child["status"] == "NEW"
    emulator.step()
    assert state(client, child) == "FILLED"


def test_a_mark_price_trigger_watches_the_mark_candles(venue: Callable[..., Venue], tmp_path: Path) -> None:
    marks = write_candles(tmp_path, flat(50000, 6), "BTCUSDT-mark-5m.csv")
    emulator, client = venue(DIP, mark=(marks,))
    client.order("BUY", "0.2")
    by_mark = conditional(client, "STOP_MARKET", "49500", workingType="MARK_PRICE", reduceOnly="true")
    by_last = conditional(client, "STOP_MARKET", "49500", workingType="CONTRACT_PRICE", reduceOnly="true")
    emulator.step(2)
    assert (algo_state(client, by_mark), algo_state(client, by_last)) == ("NEW", "FINISHED")


def test_close_all_orders_lapse_with_the_position_one_of_them_closed(venue: Callable[..., Venue]) -> None:
    emulator, client = venue(DIP)
    client.order("BUY", "0.1")
    stop = conditional(client, "STOP_MARKET", "49500", quantity="", closePosition="true")
    target = conditional(client, "TAKE_PROFIT_MARKET", "52000", quantity="", closePosition="true")
    emulator.step(2)
    assert (algo_state(client, stop), algo_state(client, target)) == ("FINISHED", "EXPIRED")
    assert client.code("DELETE", ALGO, algoId=target["algoId"]) == -2011


def test_conditional_orders_are_cancelled_together_and_apart_from_ordinary_ones(venue: Callable[..., Venue]) -> None:
    _, client = venue(DIP)
    client.order("BUY", "0.1")
    resting = limit(client, "48000")
    algo = conditional(client, "STOP_MARKET", "49500", reduceOnly="true")
    client.send("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
    assert (state(client, resting), algo_state(client, algo)) == ("CANCELED", "NEW")
    client.send("DELETE", "/fapi/v1/algoOpenOrders", symbol="BTCUSDT")
    assert algo_state(client, algo) == "CANCELED"
    assert client.send("GET", "/fapi/v1/openAlgoOrders").json() == []
    assert [row["algoStatus"] for row in client.send("GET", "/fapi/v1/allAlgoOrders", symbol="BTCUSDT").json()] == [
        "CANCELED"
    ]


def test_a_conditional_client_id_is_unique_while_it_waits(venue: Callable[..., Venue]) -> None:
    _, client = venue(DIP)
    conditional(client, "STOP_MARKET", "49500", clientAlgoId="one")
    again = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "quantity": "0.1", "triggerPrice": "49000"}
    assert client.code("POST", ALGO, algoType="CONDITIONAL", clientAlgoId="one", **again) == -4116


def test_history_is_paged_by_id_and_by_time_oldest_first(venue: Callable[..., Venue]) -> None:
    emulator, client = venue(flat(50000, 6))
    for _ in range(4):
        client.order("BUY", "0.01")
        emulator.step()
    symbol = {"symbol": "BTCUSDT"}
    orders = client.send("GET", "/fapi/v1/allOrders", **symbol).json()
    trades = client.send("GET", "/fapi/v1/userTrades", **symbol).json()
    later = client.send("GET", "/fapi/v1/allOrders", orderId=orders[1]["orderId"], limit=2, **symbol).json()
    assert [row["orderId"] for row in later] == [row["orderId"] for row in orders[1:3]]
    newest = client.send("GET", "/fapi/v1/userTrades", limit=1, **symbol).json()
    assert newest == trades[-1:]
    from_id = client.send("GET", "/fapi/v1/userTrades", fromId=trades[2]["id"], **symbol).json()
    assert from_id == trades[2:]
    of_one = client.send("GET", "/fapi/v1/userTrades", orderId=orders[0]["orderId"], **symbol).json()
    assert of_one == trades[:1]
    window = {"startTime": trades[1]["time"], "endTime": trades[2]["time"]}
    assert client.send("GET", "/fapi/v1/userTrades", **window, **symbol).json() == trades[1:3]
    income = client.send("GET", "/fapi/v1/income", incomeType="COMMISSION").json()
    page = client.send("GET", "/fapi/v1/income", incomeType="COMMISSION", limit=3, page=2).json()
    assert (len(income), page) == (4, income[3:])


def test_lists_without_a_symbol_hold_every_symbol_and_weigh_more(venue: Callable[..., Venue]) -> None:
    emulator, client = venue(flat(50000, 3))
    limit(client, "48000")
    emulator.requests(clear=True)
    assert len(client.send("GET", "/fapi/v1/openOrders").json()) == 1
    assert len(client.send("GET", "/fapi/v1/openOrders", symbol="BTCUSDT").json()) == 1
    assert [row["weight"] for row in emulator.requests()] == [40, 1]


def test_a_raised_isolated_leverage_sets_margin_free(venue: Callable[..., Venue]) -> None:
    _, client = venue(flat(50000, 3))
    client.send("POST", "/fapi/v1/marginType", symbol="BTCUSDT", marginType="ISOLATED")
    client.order("BUY", "0.1")
    before = client.send("GET", "/fapi/v3/account").json()["availableBalance"]
    client.send("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=50)
    after = client.send("GET", "/fapi/v3/account").json()["availableBalance"]
    # 5,000 / 20 − 5,000 / 50
    assert float(after) - float(before) == 150


def test_the_second_of_two_cross_positions_counts_in_the_firsts_liquidation_price(tmp_path: Path) -> None:
    files = (
        write_candles(tmp_path, flat(50000, 3)),
        write_candles(tmp_path, [*flat(3000, 1), *flat(3000, 1), *flat(2900, 1)], "ETHUSDT-5m.csv"),
    )
    config = EmulatorConfig(candles=files, history_candles=1, **NO_LIMITS)
    with EmulatorThread(config) as emulator, BareClient(emulator) as client:
        client.order("BUY", "1")
        client.order("BUY", "10", symbol="ETHUSDT")
        risk = {"symbol": "BTCUSDT"}
        before = float(client.send("GET", "/fapi/v3/positionRisk", **risk).json()[0]["liquidationPrice"])
        emulator.step()
        after = float(client.send("GET", "/fapi/v3/positionRisk", **risk).json()[0]["liquidationPrice"])
    # ETH loses 1,000 and its maintenance margin falls by 0.004 × 1,000 (its bracket ends at 300,000)
    assert after - before == pytest.approx((1000 - 4) / 0.996, abs=1e-6)
