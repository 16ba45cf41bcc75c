"""decide() against a table written from SPEC §5 by hand: all 8 rows of flags × 3 positions × the option."""

from __future__ import annotations

import pytest

from strategy.rules import HOLD, OPPOSITE_SIGNAL, PROFIT_TARGET, Decision, RowFlags, RuleOptions, decide

# One line per row of flags (b buy, s sell, t target) and, per position, what happens with the option on and off.
# L enters long, S enters short, P closes for the target, O closes for the opposite signal, PL closes and enters long;
# a dash does nothing; ! marks a row of conflicting signals.
TABLE = """
flags | flat     | long      | short
      | on   off | on   off  | on   off
---   | -    -   | -    -    | -    -
b--   | L    L   | -    -    | OL   -
-s-   | S    S   | OS   -    | -    -
bs-   | !    !   | !    !    | !    !
--t   | -    -   | P    P    | P    P
b-t   | L    L   | PL   PL   | PL   PL
-st   | S    S   | PS   PS   | PS   PS
bst   | !    !   | P!   P!   | P!   P!
"""
SIDES = {"flat": 0, "long": 1, "short": -1}


def read_table() -> dict[tuple[str, str, bool], str]:
    cells: dict[tuple[str, str, bool], str] = {}
    for line in TABLE.strip().splitlines()[2:]:
        flags, *positions = line.split("|")
        for side, pair in zip(SIDES, positions, strict=True):
            on, off = pair.split()
            cells[flags.strip(), side, True], cells[flags.strip(), side, False] = on, off
    return cells


CELLS = read_table()


def decision_of(cell: str) -> Decision:
    reason = PROFIT_TARGET if "P" in cell else OPPOSITE_SIGNAL if "O" in cell else ""
    return Decision(reason, 1 if "L" in cell else -1 if "S" in cell else 0, "!" in cell)


@pytest.mark.parametrize(("flags", "side", "option"), CELLS)
def test_every_combination_is_decided_as_the_table_says(flags: str, side: str, option: bool) -> None:
    row = RowFlags("b" in flags, "s" in flags, "t" in flags)
    assert decide(row, SIDES[side], RuleOptions(option)) == decision_of(CELLS[flags, side, option])


def test_the_table_holds_all_48_combinations() -> None:
    assert len(CELLS) == 48


def test_closing_on_the_opposite_signal_is_the_default() -> None:
    assert RuleOptions().close_on_opposite_signal is True


def test_hold_is_the_decision_of_an_empty_row() -> None:
    assert decide(RowFlags(False, False, False), 1, RuleOptions()) == HOLD


def test_the_reasons_are_the_words_of_the_trade_log() -> None:
    assert (PROFIT_TARGET, OPPOSITE_SIGNAL) == ("profit_target", "opposite_signal")


def test_long_and_short_are_mirror_images() -> None:
    for (flags, side, option), cell in CELLS.items():
        mirrored_flags = flags.translate(str.maketrans("bs", "SB")).lower()
        mirrored_flags = "".join(c if c in mirrored_flags else "-" for c in "bst")
        mirrored_side = {"flat": "flat", "long": "short", "short": "long"}[side]
        assert CELLS[mirrored_flags, mirrored_side, option] == cell.translate(str.maketrans("LS", "SL"))
