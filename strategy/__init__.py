"""Decisions: the user's compute_smm(), the trading rules, the Backtrader strategy. Imports feeds.lines only."""
