"""A bad network and a sleeping machine: real processes, and a real socket in between that is cut."""

from __future__ import annotations

import time
from pathlib import Path

from outage_kit import both_modes
from tcp_gate import REFUSE, RESET, SILENCE


def test_the_network_is_gone_for_a_second_half_a_minute_and_ten_minutes_of_the_market(tmp_path: Path) -> None:
    with both_modes(tmp_path) as runs:
        for how, market_s, noticed in ((RESET, 1.0, 0), (SILENCE, 30.0, 0), (REFUSE, 600.0, 1)):
            for run in runs:
                run.wait_for_middle()
                run.gate.cut(how)
            time.sleep(market_s / runs[0].speed)
            for run in runs:
                run.gate.heal()
            for run in runs:
                if noticed:
                    run.wait_for_event("connection_restored")
                run.wait_for_candles(5)
        for run in runs:
            run.end()
            run.check()
            assert max(map(len, run.batches())) >= 10
            assert run.kinds()["connection_lost"] == run.kinds()["connection_restored"] == 1
            assert "connection lost" in run.said
            assert "connection restored" in run.said
