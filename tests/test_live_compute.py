"""compute_smm() on short windows: patience with a young market, none with a file that cannot work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from live_kit import FIVE_MINUTES_MS, START_MS, files_of, report_of, rows_of, run_live
from made_files import smm_bt

from smm_bt.app.live_compute import LiveCompute, MadeTrial
from strategy.contract import StrategyRefused

SIZE = 50


def frame(count: int) -> pd.DataFrame:
    open_ms = START_MS + FIVE_MINUTES_MS * np.arange(count)
    index = pd.DatetimeIndex(open_ms.astype("datetime64[ms]"), tz="UTC", name="timestamp")
    return pd.DataFrame({name: np.full(count, 7.0) for name in ("open", "high", "low", "close", "volume")}, index=index)


def judge(compute: Callable[..., object], said: list[str]) -> LiveCompute:
    trial = MadeTrial(compute, {}, SIZE, FIVE_MINUTES_MS)
    return LiveCompute(compute, {}, SIZE, trial, lambda kind, message, **more: said.append(kind))


def flags(df: pd.DataFrame) -> dict[str, Any]:
    return {"buy_signal": df["close"] > 0, "sell_signal": df["close"] < 0}


def test_a_short_window_is_excused_until_the_function_has_worked_once() -> None:
    said: list[str] = []
    compute = judge(lambda df: flags(df) if 20 <= len(df) < 30 or len(df) == SIZE else df, said)
    assert not compute(frame(1))["buy_signal"].any()
    assert "buy_signal" in compute.silence
    assert compute(frame(19))["sell_signal"].tolist() == [False] * 19
    assert said == ["too_few_candles"]
    assert compute(frame(20))["buy_signal"].all()
    assert (compute.has_worked, compute.silence) == (True, "")
    with pytest.raises(StrategyRefused):
        compute(frame(30))


def test_a_full_window_is_not_excused() -> None:
    with pytest.raises(StrategyRefused, match="must return the columns"):
        judge(lambda df: flags(df) if (df["close"] != 7).all() else df, [])(frame(SIZE))


def broken_index(df: pd.DataFrame) -> Any:
    return pd.DataFrame(flags(df)).reset_index(drop=True) if len(df) > 5 else None


def missing_module(df: pd.DataFrame) -> Any:
    import no_such_module_at_all  # noqa: F401  # the point


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        (lambda df: df, "'buy_signal' and 'sell_signal'"),
        (broken_index, "must keep the index"),
        (missing_module, "needs the package"),
        (lambda df: df["Close"], "KeyError"),
    ],
)
def test_a_file_that_cannot_work_is_refused_at_the_first_candle(compute: Any, words: str) -> None:
    with pytest.raises(StrategyRefused, match=f"{words}.*on {SIZE} made ones, a full window"):
        judge(compute, [])(frame(1))


def test_another_exception_on_made_candles_than_on_real_ones_proves_nothing() -> None:
    def picky(df: pd.DataFrame) -> Any:
        raise ValueError(f"{len(df)} candles")

    assert not judge(picky, [])(frame(1))["buy_signal"].any()


def test_the_made_window_is_a_full_one_before_the_first_candle_near_its_price_and_tried_once() -> None:
    seen: list[pd.DataFrame] = []

    def compute(df: pd.DataFrame) -> Any:
        seen.append(df.copy())
        return flags(df) if len(df) == SIZE else df

    first = judge(compute, [])
    first(frame(1))
    first(frame(2))
    assert [len(df) for df in seen] == [1, SIZE, 2]
    made = seen[1]
    assert (made.index.dtype, made.index.name, list(made)) == (seen[0].index.dtype, "timestamp", list(seen[0]))
    assert (made.index[-1], set(np.diff(made.index.asi8))) == (
        seen[0].index[0] - pd.Timedelta(minutes=5),
        {FIVE_MINUTES_MS},
    )
    assert made["open"].iloc[0] == pytest.approx(7.0)
    assert made["close"].nunique() > 20


NEEDS_A_HUNDRED = """
def compute_smm(df):
    if len(df) < 100:
        return df
    return {"buy_signal": df.close > 0, "sell_signal": df.close < 0}
"""


def test_a_run_whose_candles_end_before_the_function_worked_once_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "hungry.py").write_text(NEEDS_A_HUNDRED, "utf-8")
    candles = files_of(tmp_path, count=30)
    with pytest.raises(StrategyRefused, match="ended before it worked once"):
        run_live(tmp_path / "run", tmp_path / "hungry.py", candles)
    assert report_of(tmp_path / "run")["candles"] == 30
    run_live(tmp_path / "short", tmp_path / "hungry.py", candles, max_candles=5)  # a person's limit is no refusal
    assert rows_of(tmp_path / "short", "SELECT count(*) FROM events WHERE kind = 'too_few_candles'") == [(1,)]


def test_a_run_without_any_signals_says_so_at_its_end_and_a_broken_file_ends_with_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "hungry.py").write_text(NEEDS_A_HUNDRED, "utf-8")
    (tmp_path / "broken.py").write_text("def compute_smm(df):\n    df['buy'] = True\n    return df\n", "utf-8")
    market = ("live", *files_of(tmp_path, count=10), "--speed", "max", "--no-pages", "--strategy")
    silent = smm_bt(*market, "hungry.py", "--out", "run", "--max-candles", "5", cwd=tmp_path)
    assert (silent.returncode, "! NO SIGNALS of BTCUSDT" in silent.stdout) == (0, True)
    broken = smm_bt(*market, "broken.py", "--out", "none", cwd=tmp_path)
    assert (broken.returncode, "it returned buy." in broken.stderr) == (3, True)
