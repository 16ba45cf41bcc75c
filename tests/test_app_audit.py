"""``smm-bt audit``: files with a known fault are caught at the bar where it shows, sound ones pass."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from made_files import NEW_YEAR_MS, made_rows, smm_bt, write_csv, write_strategy
from rich.console import Console

from feeds.files import read_candles
from smm_bt.app.audit import Audited, AuditRequest, LooksAhead, audit
from smm_bt.app.audit_memory import known_warm_up, remember_warm_up
from smm_bt.app.settings import Settings
from smm_bt.errors import RunFailed, UsageError
from strategy.contract import StrategyRefused
from strategy.loader import locate_strategy

SOUND = """
def compute_smm(df, window=50):
    mean = df["close"].rolling(window).mean()
    return {"buy_signal": df["close"] > mean, "sell_signal": df["close"] < mean, "profit_target_hit": [False] * len(df)}
"""

#: Buys on the candle before a rise of the close: row 5 and 25 are decided by rows that come later.
PEEKING = """
import numpy as np

def compute_smm(df):
    row = np.arange(len(df))
    buy = (df["close"].shift(-1) > df["close"]).to_numpy() & (row % 20 == 5)
    return {"buy_signal": buy, "sell_signal": row % 20 == 15}
"""

PEEKING_BESIDE = """
import numpy as np

def compute_smm(df):
    row = np.arange(len(df))
    return {"buy_signal": row % 20 == 5, "sell_signal": row % 20 == 15, "ratio": df["close"] / df["close"].max()}
"""

MOODY = """
import numpy as np

def compute_smm(df):
    return {"buy_signal": np.random.default_rng().random(len(df)) > 0.5, "sell_signal": np.zeros(len(df), bool)}
"""

#: A running total from the first candle: no window ever gives what the whole history gives.
NEVER_FORGETS = """
def compute_smm(df):
    total = df["volume"].cumsum()
    return {"buy_signal": (total // 100) % 2 == 1, "sell_signal": (total // 100) % 2 == 0}
"""


def rising(folder: Path, count: int = 400) -> Path:
    """Closes rise by one a candle, so that a glance at the next close always says yes."""
    rows = [
        (NEW_YEAR_MS + n * 300_000, 1000.0 + n, 1001.5 + n, 999.5 + n, 1001.0 + n, 10.0 + n % 3) for n in range(count)
    ]
    return write_csv(folder / "BTCUSDT-5m.csv", rows)


class Outcome(NamedTuple):
    """What an audit said, and what came of it."""

    said: str
    result: list[Audited]
    problem: Exception | None


def run(folder: Path, source: str, **changes: Any) -> Outcome:
    """Audit a file on rising candles unless told otherwise."""
    settings = {"DATA_DIR": folder / "data", "STRATEGY_FILE": write_strategy(folder / "mine.py", source)}
    settings |= changes.pop("settings", {})
    request = AuditRequest(Settings.model_validate(settings), **({"files": (rising(folder),), "budget": 60} | changes))
    text = StringIO()
    try:
        result = audit(request, Console(file=text, width=300))
    except Exception as problem:
        return Outcome(text.getvalue(), [], problem)
    return Outcome(text.getvalue(), result, None)


def test_a_sound_file_passes_and_its_window_is_found_exactly(tmp_path: Path) -> None:
    write_csv(tmp_path / "ETHUSDT-5m.csv", made_rows(400))
    found = run(tmp_path, SOUND, files=(tmp_path / "ETHUSDT-5m.csv",))
    assert found.result[0].look_ahead.passed
    assert found.result[0].warm_up.window_candles == 50
    assert "Look-ahead: none found." in found.said
    assert "Warm-up: 50 candles give the right signals" in found.said
    assert "WARMUP_CANDLES is 1,500: enough." in found.said


def test_a_glance_at_the_next_candle_is_caught_at_its_bar_with_both_values(tmp_path: Path) -> None:
    found = run(tmp_path, PEEKING)
    assert isinstance(found.problem, LooksAhead)
    assert found.problem.exit_code == 3
    assert str(found.problem) == "The strategy looks ahead on BTCUSDT 5m; see above."
    assert (
        "LOOKS AHEAD. First at bar 5, the candle of 2025-01-01T00:25:00Z: buy_signal is False when 6 candles are "
        "known, and True on the whole history." in found.said
    )


def test_a_drawn_column_that_looks_ahead_fails_too_but_is_told_apart(tmp_path: Path) -> None:
    found = run(tmp_path, PEEKING_BESIDE)
    assert isinstance(found.problem, LooksAhead)
    assert "No column that trades is affected" in found.said
    assert "ratio is 1 when" in found.said


def test_a_file_that_throws_dice_is_called_not_repeatable(tmp_path: Path) -> None:
    found = run(tmp_path, MOODY)
    assert isinstance(found.problem, LooksAhead)
    assert "does not repeat itself" in str(found.problem)
    assert "NOT REPEATABLE" in found.said


def test_a_file_that_never_forgets_is_told_that_live_will_differ(tmp_path: Path) -> None:
    found = run(tmp_path, NEVER_FORGETS)
    assert found.result[0].warm_up.window_candles is None
    assert "even 200 candles do not give the signals of the whole history" in found.said


def test_too_small_a_warm_up_setting_is_said_and_remembered_for_live(tmp_path: Path) -> None:
    write_csv(tmp_path / "ETHUSDT-5m.csv", made_rows(400))
    chosen = {"WARMUP_CANDLES": 30}
    found = run(tmp_path, SOUND, files=(tmp_path / "ETHUSDT-5m.csv",), settings=chosen)
    assert "WARMUP_CANDLES is 30, which is too few: live trading is refused until it is at least 50." in found.said
    settings = Settings.model_validate({"DATA_DIR": tmp_path / "data", "STRATEGY_FILE": tmp_path / "mine.py"})
    strategy = locate_strategy(settings.STRATEGY_FILE)
    assert known_warm_up(settings, strategy) == 50
    remember_warm_up(settings, strategy, 20)
    assert known_warm_up(settings, strategy) == 50, "a shorter window found on other candles takes nothing back"
    other = settings.model_copy(update={"STRATEGY_PARAMETERS": {"window": 90}})
    assert known_warm_up(other, strategy) is None, "other parameters were never audited"
    write_strategy(tmp_path / "mine.py", SOUND + "# changed\n")
    assert known_warm_up(settings, locate_strategy(settings.STRATEGY_FILE)) is None


def test_parameters_of_the_settings_reach_the_file(tmp_path: Path) -> None:
    write_csv(tmp_path / "ETHUSDT-5m.csv", made_rows(400))
    files = (tmp_path / "ETHUSDT-5m.csv",)
    found = run(tmp_path, SOUND, files=files, settings={"STRATEGY_PARAMETERS": {"window": 20}})
    assert found.result[0].warm_up.window_candles == 20


def test_every_file_is_audited_and_the_worst_decides(tmp_path: Path) -> None:
    flat = write_csv(tmp_path / "ETHUSDT-5m.csv", [(*row[:1], 9.0, 9.0, 9.0, 9.0, 1.0) for row in made_rows(100)])
    found = run(tmp_path, PEEKING, files=(flat, rising(tmp_path)))
    assert isinstance(found.problem, LooksAhead)
    assert "on BTCUSDT 5m;" in str(found.problem)
    assert "ETHUSDT 5m: 100 candles" in found.said


def test_candles_too_few_for_the_file_to_run_at_all_are_no_verdict(tmp_path: Path) -> None:
    needs_all = """
def compute_smm(df):
    if len(df) < 400:
        raise ValueError("I want 400 candles")
    return {"buy_signal": [False] * len(df), "sell_signal": [False] * len(df)}
"""
    found = run(tmp_path, needs_all)
    assert isinstance(found.problem, RunFailed)
    assert "I want 400 candles" in found.said


def test_a_broken_contract_and_a_senseless_budget_are_refused(tmp_path: Path) -> None:
    assert isinstance(run(tmp_path, "def compute_smm(df): return {}").problem, StrategyRefused)
    assert isinstance(run(tmp_path, SOUND, budget=1).problem, UsageError)


def test_the_command_takes_made_candles_says_so_and_exits_0(tmp_path: Path) -> None:
    done = smm_bt("audit", "--budget", "40", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3,000 made 5m candles are used: an invented market" in done.stdout
    assert "REFERENCE, not SMM v4.1" in done.stdout
    assert done.stderr == ""


def test_the_command_exits_3_with_one_sentence_when_the_file_looks_ahead(tmp_path: Path) -> None:
    write_strategy(tmp_path / "mine.py", PEEKING)
    candles = rising(tmp_path, 200)
    done = smm_bt("audit", "--candles", candles, "--strategy", "mine.py", "--budget", "30", cwd=tmp_path)
    assert done.returncode == 3
    assert "LOOKS AHEAD. First at bar 5" in done.stdout
    assert done.stderr == "smm-bt: The strategy looks ahead on BTCUSDT 5m; see above.\n"


def test_on_a_terminal_a_bar_counts_the_recomputations(tmp_path: Path) -> None:
    text = StringIO()
    settings = Settings.model_validate(
        {"DATA_DIR": tmp_path, "STRATEGY_FILE": write_strategy(tmp_path / "mine.py", SOUND)}
    )
    audit(AuditRequest(settings, (rising(tmp_path),), 400), Console(file=text, width=120, force_terminal=True))
    assert "Looking for look-ahead" in text.getvalue()
    assert "Measuring the warm-up" in text.getvalue()


def test_the_audited_candles_are_those_of_the_file(tmp_path: Path) -> None:
    found = run(tmp_path, PEEKING_BESIDE.replace('df["close"].max()', "1.0"))
    assert len(found.result[0].candles) == len(read_candles(tmp_path / "BTCUSDT-5m.csv")) == 400
