"""The trading rules, once: what one row of flags means for one position (SPEC §5, rules 1 to 4)."""

from __future__ import annotations

from typing import NamedTuple

PROFIT_TARGET = "profit_target"
OPPOSITE_SIGNAL = "opposite_signal"


class RowFlags(NamedTuple):
    """The three flags of one closed candle."""

    buy_signal: bool
    sell_signal: bool
    profit_target_hit: bool


class RuleOptions(NamedTuple):
    """What the user may switch about the rules."""

    close_on_opposite_signal: bool = True


class Decision(NamedTuple):
    """What to do at the next execution: first close (if ``close_reason``), then enter (if ``entry_side`` is ±1)."""

    close_reason: str
    entry_side: int
    conflicting_signals: bool


#: Do nothing; decide() returns this very object when there is nothing to do.
HOLD = Decision("", 0, False)


def decide(row: RowFlags, position_side: int, options: RuleOptions) -> Decision:
    """Return what the rules make of ``row`` when the position is ``position_side`` (−1 short, 0 flat, +1 long).

    ====  ==========================  =================================  ==========================================
    rule  position                    row                                decision
    ====  ==========================  =================================  ==========================================
    1     open                        profit_target_hit                  close, reason ``profit_target``
    2     open, not closed by 1       opposite signal alone, and the     close, reason ``opposite_signal``
                                      option is on
    3     flat, or closed by 1 or 2   buy_signal alone / sell_signal     enter long / enter short
                                      alone
    3     open and staying open       any signal                         ignored: no pyramiding, no reversal
    4     any                         both signals                       no entry and no close by rule 2, marked as
                                                                         conflicting; rule 1 still applies
    ====  ==========================  =================================  ==========================================
    """
    conflicting = row.buy_signal and row.sell_signal
    signal_side = 0 if conflicting else int(row.buy_signal) - int(row.sell_signal)
    close_reason = ""
    if position_side and row.profit_target_hit:
        close_reason = PROFIT_TARGET
    elif position_side and signal_side == -position_side and options.close_on_opposite_signal:
        close_reason = OPPOSITE_SIGNAL
    entry_side = signal_side if close_reason or not position_side else 0
    if not (close_reason or entry_side or conflicting):
        return HOLD
    return Decision(close_reason, entry_side, conflicting)
