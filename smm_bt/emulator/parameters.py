"""The parameters of one request, read the venue's way: missing or malformed ones are refused by code."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal, InvalidOperation

from smm_bt.emulator.exact import ZERO
from smm_bt.emulator.refusals import VenueError


class Parameters:
    """Typed access to query and body parameters."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return bool(self._values.get(name))

    def text(self, name: str) -> str:
        """Return a mandatory text."""
        value = self._values.get(name, "")
        if not value:
            raise VenueError(-1102, name)
        return value

    def optional_text(self, name: str, default: str = "") -> str:
        """Return a text or the default."""
        return self._values.get(name) or default

    def choice(self, name: str, allowed: Collection[str], default: str | None = None, code: int = -1130) -> str:
        """Return one of the allowed words."""
        value = self.text(name) if default is None else self.optional_text(name, default)
        if value not in allowed:
            raise VenueError(code, name)
        return value

    def decimal(self, name: str) -> Decimal:
        """Return a mandatory number."""
        try:
            value = Decimal(self.text(name))
        except InvalidOperation:
            raise VenueError(-1102, name) from None
        if not value.is_finite():
            raise VenueError(-1102, name)
        return value

    def optional_decimal(self, name: str) -> Decimal:
        """Return a number, zero when it was not sent."""
        return self.decimal(name) if name in self else ZERO

    def integer(self, name: str) -> int:
        """Return a mandatory whole number."""
        try:
            return int(self.text(name))
        except ValueError:
            raise VenueError(-1102, name) from None

    def optional_integer(self, name: str) -> int | None:
        """Return a whole number or None."""
        return self.integer(name) if name in self else None

    def limit(self, default: int, highest: int) -> int:
        """Return ``limit``, held within what the endpoint allows."""
        value = self.optional_integer("limit")
        if value is None:
            return default
        if not 1 <= value <= highest:
            raise VenueError(-1130, "limit")
        return value

    def boolean(self, name: str, *, default: bool | None = None) -> bool:
        """Return ``true`` or ``false`` as the venue spells them."""
        value = self.text(name) if default is None else self.optional_text(name, str(default).lower())
        if value.lower() not in {"true", "false"}:
            raise VenueError(-1130, name)
        return value.lower() == "true"
