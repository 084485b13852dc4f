"""Who asks, by key or by session cookie, and whether they may. A cookie counts for a change only from our own pages."""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from fastapi import Request, Response

from twintrack import auth
from twintrack.auth import Principal
from twintrack.bounds import foreign_address, foreign_origin
from twintrack.control.control import Control
from twintrack.errors import RequestError
from twintrack.metrics import Metrics
from twintrack.peer import asker_address
from twintrack.permissions import MEANING, Permission, roles_with
from twintrack.settings import Settings

_COOKIE = "twintrack_session"


class Admission:
    def __init__(self, control: Control, settings: Settings, metrics: Metrics) -> None:
        self._control, self._settings, self._metrics = control, settings, metrics

    def principal(self, request: Request) -> Principal:
        """Raises: RequestError 401 for nobody, 403 from where a key or a cookie does not count."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            principal = self._control.principal(key.strip())
            if principal is not None:
                self.check_bounds(principal, request)
        else:
            cookie = self.cookie(request)
            principal = self._control.session(cookie) if cookie else None
            if principal is not None:
                self.check_bounds(principal, request, proven=True)
                if request.method not in ("GET", "HEAD"):
                    self.check_origin(request)
        if principal is None:
            self.refused("unknown_key" if scheme else "no_session")
            raise RequestError(
                "sign in first",
                hint="open a session, or send a key as `Authorization: Bearer`",
                code="not_signed_in",
                status=401,
            )
        return principal

    async def still(self, request: Request, principal: Principal) -> bool:
        """Whether the request would still be let in as the same: what is answered over minutes asks again."""
        try:
            return await asyncio.to_thread(self.principal, request) == principal
        except RequestError:
            return False

    def may(self, permission: Permission) -> Callable[[Request], Principal]:
        """A dependency: the principal, who has the permission."""
        return self._dependency(roles_with(permission), MEANING[permission])

    def check(self, principal: Principal, permission: Permission) -> None:
        """Raises: RequestError 403 where the principal lacks it."""
        self._check(principal, roles_with(permission), MEANING[permission])

    def _check(self, principal: Principal, allowed: frozenset[auth.Role], what: str) -> None:
        if principal.role not in allowed:
            self.refused("wrong_role")
            raise RequestError(
                f"the role {principal.role} may not {what.partition(';')[0]}",
                hint="roles that may: " + ", ".join(role.value for role in auth.Role if role in allowed),
                code="wrong_role",
                status=403,
            )

    def _dependency(self, allowed: frozenset[auth.Role], what: str) -> Callable[[Request], Principal]:
        def dependency(request: Request) -> Principal:
            principal = self.principal(request)
            self._check(principal, allowed, what)
            return principal

        return dependency

    def refused(self, reason: str) -> None:
        self._metrics.access_refused.labels(reason).inc()

    def address(self, request: Request) -> str:
        """The client's, as far as trusted proxies vouch for it."""
        return asker_address(request, self._settings.trusted_proxies)

    def check_bounds(self, principal: Principal, request: Request, *, proven: bool = False) -> None:
        """`proven` is whether this session was opened from an origin of its key: browsers name none when they only read
        from our own pages, and that is no reason to refuse it then.

        Raises: RequestError 403 where the key may not be used from this address or origin.
        """
        bounds = principal.bounds
        if bounds.networks and not bounds.allows_address(self.address(request)):
            self.refused("foreign_address")
            raise foreign_address()
        origin = request.headers.get("origin")
        if not (proven and origin is None) and not bounds.allows_origin(origin):
            self.refused("foreign_origin")
            raise foreign_origin()

    def check_origin(self, request: Request, *, unsaid: bool = False) -> None:
        """Against forged requests: the browser itself says where a request comes from.

        `Sec-Fetch-Site` cannot be set by a page; a browser too old for it sends `Origin` with every change. `unsaid` is
        whether a request that says neither passes: a program's, which has no cookie that a page could use.

        Raises: RequestError 403 for another site.
        """
        site = request.headers.get("sec-fetch-site")
        origin = request.headers.get("origin")
        if site is not None:
            same = site == "same-origin"
        elif origin is not None:
            same = origin.partition("://")[2] in self._hosts(request)
        else:
            same = unsaid
        if not same:
            self.refused("foreign_origin")
            raise RequestError(
                "the request does not come from our own pages",
                hint="use a key as `Authorization: Bearer`; behind a proxy set TWINTRACK_PUBLIC_URL",
                code="foreign_origin",
                status=403,
            )

    def _hosts(self, request: Request) -> set[str]:
        return {request.headers.get("host", ""), urlsplit(self._settings.public_url).netloc} - {""}

    def _secure(self, request: Request) -> bool:
        return request.url.scheme == "https" or self._settings.public_url.startswith("https://")

    def _cookie_name(self, request: Request) -> str:
        """With `__Host-` a browser takes the cookie from this host alone, over https alone."""
        return f"__Host-{_COOKIE}" if self._secure(request) else _COOKIE

    def cookie(self, request: Request) -> str:
        return request.cookies.get(self._cookie_name(request), "")

    def set_cookie(self, response: Response, request: Request, secret: str) -> None:
        response.set_cookie(
            self._cookie_name(request),
            secret,
            max_age=self._settings.session_days * 86_400,
            httponly=True,
            samesite="strict",
            secure=self._secure(request),
            path="/",
        )

    def clear_cookie(self, response: Response, request: Request) -> None:
        response.delete_cookie(
            self._cookie_name(request), path="/", secure=self._secure(request), httponly=True, samesite="strict"
        )
