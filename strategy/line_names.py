"""Which name a column of the user's gets as a Backtrader line: an identifier that shadows nothing."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Container

from feeds.lines import CANDLE_COLUMNS, FLAG_LINES

#: Put before a name that is already taken.
PREFIX = "extra_"

#: Public attributes of backtrader 1.9.78 feeds and of their ``lines``; a line of that name would hide or break them.
_NAMES = """
CONNBROKEN CONNECTED Close DELAYED DISCONNECTED DateTime High IndType LIVE LineOrder Low NOTSUBSCRIBED
NOTSUPPORTED_TF ObsType Open OpenInterest StratType UNKNOWN Volume addfilter addfilter_simple addminperiod advance
advance_peek alias aliased array backwards buflen clone close compensate copyas csv datafields date2num datetime
do_qcheck extend extrasize forward fromdate frompackages fullsize get get_notifications getenvironment getfeed
getlinealiases getwriterheaders getwriterinfo getwritervalues haslivedata high home incminperiod islive itersize l
linealias lines load low minbuffer next nextstart notifs num2date once oncestart open openinterest p packages
params plotinfo plotlabel plotlines preload prenext preonce put_notification qbuffer replay replaying resample
resampling reset rewind sessionend sessionstart setenvironment setminperiod size start stop tick_close tick_high
tick_last tick_low tick_open tick_openinterest tick_volume todate updateminperiod volume
"""
BACKTRADER_NAMES = frozenset(_NAMES.split())

_RESERVED = BACKTRADER_NAMES | frozenset(CANDLE_COLUMNS) | frozenset(FLAG_LINES)
_NUMBERED_LINE = re.compile(r"line_?\d*")


def line_name(label: object, taken: Container[str] = ()) -> str:
    """Return the line name of the column labelled ``label``.

    Characters an identifier cannot hold become ``_`` (labels of several levels are joined by it). A name that is
    empty, starts with a digit or ``_``, is a Python keyword or belongs to Backtrader, the candle or the flags gets
    the prefix ``extra_``; a name already in ``taken`` gets the suffix ``_2``, ``_3`` and so on.
    """
    text = "_".join(map(str, label)) if isinstance(label, tuple) else str(label)
    name = re.sub(r"\W", "_", unicodedata.normalize("NFKC", text.strip()))
    if not name.isidentifier() or name.startswith("_") or _is_reserved(name):
        name = PREFIX + name.lstrip("_")
    unique, number = name, 2
    while unique in taken:
        unique = f"{name}_{number}"
        number += 1
    return unique


def _is_reserved(name: str) -> bool:
    return name in _RESERVED or keyword.iskeyword(name) or _NUMBERED_LINE.fullmatch(name) is not None
