"""What a replay says about the columns it was given, computed or read from the cache."""

from __future__ import annotations

from pathlib import Path

from feeds.cache import WORTH_KEEPING
from feeds.made import made_candles, write_candles
from smm_bt.app.build import build_replay, describe_replay
from smm_bt.app.engines import run_replay
from smm_bt.app.inputs import ReplayFiles
from smm_bt.app.settings import Settings

#: NaN in the middle of sell_signal; buy_signal has it on the first candle only, as during a warm-up.
UNDEFINED = """
def compute_smm(df):
    df["buy_signal"] = df["sell_signal"] = 0.0
    df.iloc[[0, 7, 9], df.columns.get_loc("sell_signal")] = float("nan")
    df.iloc[[0], df.columns.get_loc("buy_signal")] = float("nan")
"""


def test_flags_without_a_value_are_named_in_the_report_also_when_they_come_from_the_cache(tmp_path: Path) -> None:
    path, file = tmp_path / "BTCUSDT-1m.parquet", tmp_path / "mine.py"
    write_candles(made_candles("BTCUSDT", "1m", WORTH_KEEPING, seed=1), path)
    file.write_text(UNDEFINED)
    for cached in (False, True):
        parts = build_replay(ReplayFiles(candles=[path]), Settings(STRATEGY_FILE=file))
        columns = parts.columns["BTCUSDT"]
        assert (columns.from_cache, dict(columns.undefined)) == (cached, {"sell_signal": (2, 7)})
        remarks = describe_replay(parts, run_replay(parts.plan), "run").remarks
        (note,) = [remark for remark in remarks if "NaN" in remark]
        assert note.startswith("Column sell_signal of compute_smm() has no value (NaN) on 2 candles of BTCUSDT after")
        assert "first at 2024-01-01T00:07:00Z; it was read as False" in note
