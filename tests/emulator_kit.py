"""What the emulator tests share: candle files, the real clients, and a bare signed request."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import ccxt
import requests

from smm_bt.emulator import EmulatorThread

FIVE_MINUTES_MS = 300_000
START_MS = 1_735_689_600_000  # 2025-01-01 00:00 UTC
NO_LIMITS = {"weight_limit_1m": 0, "order_limit_10s": 0, "order_limit_1m": 0}
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def write_candles(
    folder: Path,
    rows: Sequence[Sequence[float]],
    name: str = "BTCUSDT-5m.csv",
    start_ms: int = START_MS,
    step_ms: int = FIVE_MINUTES_MS,
) -> Path:
    """Write rows of open, high, low, close (volume 10) as a candle file, one candle per step."""
    lines = ["timestamp,open,high,low,close,volume"]
    for index, row in enumerate(rows):
        lines.append(",".join(map(str, [start_ms + index * step_ms, *row, 10])))
    path = folder / name
    text = "\n".join(lines) + "\n"
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def flat(price: float, count: int = 1) -> list[tuple[float, float, float, float]]:
    """Return candles that do not move."""
    return [(price, price, price, price)] * count


def ccxt_client(emulator: EmulatorThread, **options: Any) -> ccxt.binanceusdm:
    """Return the real ccxt client, with its whole URL table pointing at the emulator."""
    client = ccxt.binanceusdm(
        {
            "apiKey": emulator.api_key,
            "secret": emulator.api_secret,
            "enableRateLimit": False,
            "options": {"fetchCurrencies": False, "adjustForTimeDifference": True} | options,
        }
    )
    client.urls["api"] = {
        f"fapi{access}{version}": f"{emulator.url}/fapi/{version.lower() or 'v1'}"
        for access in ("Public", "Private")
        for version in ("", "V2", "V3")
    }
    return client


class BareClient:
    """Signs and sends one request at a time; keeps every answer, whatever its status."""

    def __init__(self, emulator: EmulatorThread) -> None:
        self._url, self._key, self._secret = emulator.url, emulator.api_key, emulator.api_secret
        self._session = requests.Session()

    def __enter__(self) -> BareClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def send(self, method: str, path: str, **parameters: Any) -> requests.Response:
        """Send a signed request with the parameters in the query."""
        query = urlencode({"timestamp": int(time.time() * 1000), **parameters})
        signature = hmac.new(self._secret.encode(), query.encode(), hashlib.sha256).hexdigest()
        headers = {"X-MBX-APIKEY": self._key}
        url = f"{self._url}{path}?{query}&signature={signature}"
        return self._session.request(method, url, headers=headers, timeout=10)

    def order(self, side: str, quantity: str, **more: Any) -> requests.Response:
        """Send a market order for BTCUSDT."""
        parameters = {"symbol": "BTCUSDT", "side": side, "type": "MARKET", "quantity": quantity} | more
        return self.send("POST", "/fapi/v1/order", newOrderRespType="RESULT", **parameters)

    def code(self, method: str, path: str, **parameters: Any) -> int:
        """Send a request that is refused and return the venue's error code."""
        response = self.send(method, path, **parameters)
        assert response.status_code >= 400, response.text
        return int(response.json()["code"])
