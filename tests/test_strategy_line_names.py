"""Line names: any label becomes an identifier that hides nothing of a Backtrader feed."""

from __future__ import annotations

import keyword

import backtrader as bt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategy_cases import N, candles, columns_of, flags

from strategy.line_names import BACKTRADER_NAMES, line_name


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("mfi", "mfi"),
        (" HA Open ", "HA_Open"),
        ("chop-14%", "chop_14_"),
        ("14_day", "extra_14_day"),
        ("_private", "extra_private"),
        ("lambda", "extra_lambda"),
        ("size", "extra_size"),
        ("datetime", "extra_datetime"),
        ("openinterest", "extra_openinterest"),
        ("line3", "extra_line3"),
        ("", "extra_"),
        (7, "extra_7"),
        (("ha", "open"), "ha_open"),
        ("مؤشر", "مؤشر"),
    ],
)
def test_a_label_becomes_a_line_name(label: object, name: str) -> None:
    assert line_name(label) == name


def test_labels_that_become_the_same_name_are_numbered() -> None:
    columns = columns_of(flags() | {"a b": np.ones(N), "a-b": np.zeros(N), "a_b": np.full(N, 2.0)})
    assert [(name, values[0]) for name, values in columns.extras.items()] == [("a_b", 1), ("a_b_2", 0), ("a_b_3", 2)]


@given(st.one_of(st.text(max_size=12), st.integers(), st.sampled_from([*keyword.kwlist, *dir(bt.feeds.PandasData)])))
def test_every_line_name_is_an_identifier_that_hides_nothing_of_a_feed(label: object) -> None:
    name = line_name(label)
    assert name.isidentifier()
    assert not keyword.iskeyword(name)
    assert not hasattr(bt.feeds.PandasData, name)
    assert not hasattr(bt.feeds.PandasData.lines, name)


def test_the_reserved_names_are_those_of_the_installed_backtrader() -> None:
    frame = candles().tz_localize(None)
    feed = bt.feeds.PandasData(dataname=frame)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feed)
    cerebro.run()
    names = {name for name in {*dir(feed), *dir(feed.lines)} if not name.startswith("_")}
    assert {name for name in names if not name.startswith("line")} <= BACKTRADER_NAMES
    assert all(line_name(name) != name for name in names)
