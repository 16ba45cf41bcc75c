"""SMM-BT: trade the signals of your own compute_smm() experimentally, through Backtrader."""

__version__ = "0.1.0"
