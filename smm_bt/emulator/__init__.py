"""The embedded exchange: a Binance USDⓈ-M futures look-alike on loopback, for demonstrations and tests.

It shares no code with the execution package and imports nothing of ours, so that agreement between
the two is evidence.
"""

from smm_bt.emulator.config import EmulatorConfig
from smm_bt.emulator.faults import FaultRule
from smm_bt.emulator.server import EmulatorServer
from smm_bt.emulator.thread import EmulatorThread

__all__ = ["EmulatorConfig", "EmulatorServer", "EmulatorThread", "FaultRule"]
