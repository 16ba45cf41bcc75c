"""The last gate before the network: a requests session that sends only what its rules let through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, Protocol

import requests
from requests.adapters import HTTPAdapter

from smm_bt.execution.endpoints import ForbiddenRequest


class SendingRules(Protocol):
    """Says which requests may leave; :class:`PracticeVenue` and :class:`PublicDataRules` are the two there are."""

    def check(self, method: str, url: str, headers: object, body: object) -> None:
        """Raise ForbiddenRequest for a request that must not be sent."""
        ...


class _GuardedAdapter(HTTPAdapter):
    """Sends directly, never through a proxy, with certificates checked, after asking the rules once more."""

    def __init__(self, rules: SendingRules) -> None:
        super().__init__(max_retries=0)
        self._rules = rules

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send ``request`` if the rules allow it; proxies and switched-off certificate checks are ignored."""
        self._rules.check(request.method or "", request.url or "", dict(request.headers), request.body)
        return super().send(request, stream=stream, timeout=timeout, verify=True, cert=None, proxies={})


class GuardedSession(requests.Session):
    """A session with one adapter that cannot be exchanged, no proxies, no environment, no redirects."""

    def __init__(self, rules: SendingRules) -> None:
        super().__init__()
        self._rules = rules
        self._guard = _GuardedAdapter(rules)
        self.trust_env = False

    def __init_subclass__(cls, **kwargs: Any) -> NoReturn:
        raise TypeError("GuardedSession cannot be subclassed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a guarded session cannot be pickled")

    def get_adapter(self, url: str | bytes) -> HTTPAdapter:
        """Return the one adapter, whatever has been mounted."""
        return self._guard

    def mount(self, prefix: str | bytes, adapter: Any) -> None:
        """Ignore the default adapters; refuse every later one."""
        if hasattr(self, "_guard"):
            raise ForbiddenRequest("The way requests leave cannot be changed.")

    def resolve_redirects(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Follow nothing."""
        return iter(())

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Take nothing from the environment or the session."""
        return {"proxies": {}, "stream": False, "verify": True, "cert": None}

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send once; an answer that points elsewhere is an error, not a way."""
        self._rules.check(request.method or "", request.url or "", dict(request.headers), request.body)
        timeout = kwargs.get("timeout")
        response = super().send(
            request, stream=False, timeout=timeout, verify=True, cert=None, proxies={}, allow_redirects=False
        )
        if "location" in response.headers:
            target = str(response.headers.get("location", "")).partition("?")[0][:120]
            raise ForbiddenRequest(
                f"The venue's answer points to {target!r} (HTTP {response.status_code}); redirects are never followed."
            )
        return response
