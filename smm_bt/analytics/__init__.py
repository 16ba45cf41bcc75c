"""Analytics: metrics, trade log, journal, report, charts."""
