"""The Execution Engine: rounding, sizing, money, simulated and demo venues."""
