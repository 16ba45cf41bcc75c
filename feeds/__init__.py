"""Candles in, SMM lines out: the first half of the Signal Engine. Imports nothing of ours."""
