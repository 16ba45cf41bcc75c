"""Looking at a running bot and asking something of it, from another process, through its journal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from feeds.candles import iso_utc
from smm_bt.analytics.journal import Journal
from smm_bt.analytics.journal_reader import JournalReader
from smm_bt.app.clock import now_ms
from smm_bt.app.live_folder import journal_of
from smm_bt.errors import UsageError
from smm_bt.execution.host_clock import SystemClock

if TYPE_CHECKING:
    from rich.console import Console

_LOOK_AGAIN_S = 0.1


def ask(run: Path, request: str, symbol: str, wait_s: float) -> str:
    """Leave a request for the bot and return its answer, or say that none came.

    Raises:
        UsageError: no bot will ever read it: the run is a replay, or does not trade the symbol.
    """
    clock = SystemClock()
    with Journal.open(journal_of(run)) as journal:
        info = journal.run_info()
        if info.engine != "live":
            raise UsageError(f"{run} is a replay, which has ended; {request} is for a live run.")
        if symbol and symbol not in info.symbols:
            raise UsageError(f"--symbol {symbol}: the run trades {', '.join(info.symbols)}; name one of them.")
        number = journal.request_control(request, now_ms(), symbol)
        end_s = clock.seconds() + wait_s
        while (answer := journal.control_answer(number)) is None:
            if clock.seconds() > end_s:
                alive = "is running but busy" if is_alive(journal) else "is not running"
                return f"No answer yet: the bot {alive}. The request is kept and carried out when it goes on."
            clock.sleep(_LOOK_AGAIN_S)
    return answer


def is_alive(journal: JournalReader) -> bool:
    """Return whether the process that writes this journal still exists."""
    beat = journal.heartbeat()
    if beat is None or journal.run_state() != "running":
        return False
    try:
        os.kill(beat[0], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def show_status(run: Path, console: Console) -> None:
    """Print state, account, positions, the last trades and what was said last."""
    journal = JournalReader.read(journal_of(run))
    try:
        for line in status_lines(journal):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    finally:
        journal.close()


def status_lines(journal: JournalReader) -> list[str]:
    """Return what a person wants to know about a run, one line each."""
    record, info, beat = journal.record(), journal.run_info(), journal.heartbeat()
    state = journal.run_state()
    if state == "running" and not is_alive(journal):
        state = "ended without a word (killed?); go on with live --resume"
    if why := journal.why_failed():
        state = f"failed: {why}"
    lines = [f"{info.run_id} · {info.mode} · {info.market_source} · {', '.join(info.symbols)} {info.timeframe}"]
    lines.append(f"state: {state}" + (f"; last sign of life {_ago(beat[1])}" if beat else ""))
    paused = [row["request"] for row in journal.answered_controls() if row["request"] in ("pause", "resume-entries")]
    if paused and paused[-1] == "pause":
        lines.append("ENTRIES ARE PAUSED (smm-bt resume-entries)")
    candles = max((each.last_ms for each in journal.progress().values()), default=info.last_candle_ms)
    lines.append(f"last candle: {iso_utc(candles) if candles is not None else 'none yet'}")
    lines.append(f"wallet: {record.wallet_usdt:,.2f} USDT of {record.initial_balance_usdt:,.2f} at the start")
    lines += [
        f"open: {position.side} {position.qty:g} {position.symbol} at {position.entry_price:g}, "
        f"unrealised {position.unrealized_pnl_usdt:+,.2f} USDT"
        for position in record.open_positions
    ]
    if not record.open_positions:
        lines.append("open: nothing")
    net = sum(trade.pnl_usdt for trade in record.trades)
    lines.append(f"trades: {len(record.trades)}, {net:+,.2f} USDT net")
    lines += [
        f"  {iso_utc(each.exit_ms)} {each.symbol} {each.side} {each.pnl_usdt:+,.2f} {each.close_reason}"
        for each in record.trades[-3:]
    ]
    lines += [f"  {iso_utc(row['time_ms'])} {row['kind']}: {row['message']}" for row in journal.events()[-5:]]
    return lines


def _ago(time_ms: int) -> str:
    return f"{max(0, now_ms() - time_ms) // 1000} s ago"
