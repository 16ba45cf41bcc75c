"""What the embedded exchange says when it says no: the venue's numeric codes, texts and HTTP statuses."""

from __future__ import annotations

from typing import Final

TEXTS: Final[dict[int, str]] = {
    -1000: "An unknown error occurred while processing the request.",
    -1001: "Internal error; unable to process your request. Please try again.",
    -1003: "Too many requests; current limit is {0} requests per minute. "
    "Please use the websocket for live updates to avoid polling the API.",
    -1006: "An unexpected response was received from the message bus. Execution status unknown.",
    -1007: "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
    -1008: "Server is currently overloaded with other requests. Please try again in a few minutes.",
    -1015: "Too many new orders; current limit is {0} orders per {1}.",
    -1021: "Timestamp for this request is outside of the recvWindow.",
    -1022: "Signature for this request is not valid.",
    -1100: "Illegal characters found in parameter '{0}'.",
    -1102: "Mandatory parameter '{0}' was not sent, was empty/null, or malformed.",
    -1106: "Parameter '{0}' sent when not required.",
    -1109: "Invalid account.",
    -1111: "Precision is over the maximum defined for this asset.",
    -1115: "Invalid timeInForce.",
    -1116: "Invalid orderType.",
    -1117: "Invalid side.",
    -1120: "Invalid interval.",
    -1121: "Invalid symbol.",
    -1125: "This listenKey does not exist.",
    -1128: "Combination of optional parameters invalid.",
    -1130: "Data sent for parameter '{0}' is not valid.",
    -2008: "Invalid Api-Key ID.",
    -2011: "Unknown order sent.",
    -2013: "Order does not exist.",
    -2014: "API-key format invalid.",
    -2015: "Invalid API-key, IP, or permissions for action.",
    -2018: "Balance is insufficient.",
    -2019: "Margin is insufficient.",
    -2020: "Unable to fill.",
    -2021: "Order would immediately trigger.",
    -2022: "ReduceOnly Order is rejected.",
    -2025: "Reach max open order limit.",
    -2027: "Exceeded the maximum allowable position at current leverage.",
    -4002: "Price greater than max price.",
    -4003: "Quantity less than or equal to zero.",
    -4004: "Quantity less than min quantity.",
    -4005: "Quantity greater than max quantity.",
    -4013: "Price less than min price.",
    -4014: "Price not increased by tick size.",
    -4015: "Client order id length should be less than 36 chars",
    -4016: "Limit price can't be higher than {0}.",
    -4023: "Quantity not increased by step size.",
    -4024: "Limit price can't be lower than {0}.",
    -4028: "Leverage {0} is not valid",
    -4045: "Reach max stop order limit.",
    -4046: "No need to change margin type.",
    -4047: "Margin type cannot be changed if there exists open orders.",
    -4048: "Margin type cannot be changed if there exists position.",
    -4059: "No need to change position side.",
    -4061: "Order's position side does not match user's setting.",
    -4067: "Position side cannot be changed if there exists open orders.",
    -4068: "Position side cannot be changed if there exists position.",
    -4108: "Symbol is on delivering or delivered or settling or closed or pre-trading.",
    -4116: "ClientOrderId is duplicated.",
    -4120: "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
    -4131: "The counterparty's best price does not meet the PERCENT_PRICE filter limit.",
    -4136: "Target strategy invalid for orderType {0},closePosition {1}",
    -4161: "Leverage reduction is not supported in Isolated Margin Mode with open positions.",
    -4164: "Order's notional must be no smaller than {0} (unless you choose reduce only).",
    -4168: "Unable to adjust to isolated-margin mode under the Multi-Assets mode.",
    -4171: "No need to change asset mode.",
    -5000: "Path {0}, Method {1} is invalid",
    -5021: "Due to the order could not be filled immediately, the FOK order has been rejected. "
    "The order will not be recorded in the order history.",
    -5022: "Due to the order could not be executed as maker, the Post Only order will be rejected. "
    "The order will not be recorded in the order history.",
}

_STATUSES: Final[dict[int, int]] = {
    -1001: 503,
    -1003: 429,
    -1007: 408,
    -1008: 503,
    -1015: 429,
    -2008: 401,
    -2014: 401,
    -2015: 401,
    -5000: 404,
}


class VenueError(Exception):
    """A request is refused the way the venue refuses it: a numeric code, a text and an HTTP status.

    Args:
        code: the venue's numeric error code, negative.
        details: fill the placeholders of the code's text, in order.
        text: replaces the code's usual text.
        status: replaces the code's usual HTTP status (400 unless the table says otherwise).
    """

    def __init__(self, code: int, *details: object, text: str | None = None, status: int | None = None) -> None:
        self.code = code
        self.text = text if text is not None else text_of(code, *details)
        self.status = status if status is not None else _STATUSES.get(code, 400)
        super().__init__(f"{code} {self.text}")

    @property
    def body(self) -> dict[str, object]:
        """The JSON body the venue sends."""
        return {"code": self.code, "msg": self.text}


def text_of(code: int, *details: object) -> str:
    """Return the venue's text of ``code``; placeholders without a detail show a question mark."""
    template = TEXTS.get(code, "Unknown error.")
    return template.format(*details, *["?"] * max(0, template.count("{") - len(details)))
