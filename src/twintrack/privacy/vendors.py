"""Tells vendors that a person is to be forgotten, where they have an interface for it.

Statsig has one, for `user_id` alone. Source: docs.statsig.com, User Data Deletion Requests API.
Of what a tag manager has sent on only the owner of the tags knows: that stays pending, and the certificate says so.
"""

from typing import Protocol

import httpx2 as httpx

from twintrack.control.erasures import Subject

_SECONDS = 20.0
PENDING, ACCEPTED, FAILED, WAITING = "pending", "accepted", "failed", "waiting"


class Vendor(Protocol):
    name: str

    def forget(self, request_id: str, subject: Subject) -> dict[str, str]:
        """Asks for the deletion, at least once; `status` is accepted, pending, failed, or waiting: ask again later."""
        ...


class Statsig:
    """Shape: `url` is the address of Statsig's deletion requests, `key` a server key of the project there."""

    name = "statsig"

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = url, key

    def forget(self, request_id: str, subject: Subject) -> dict[str, str]:
        if not self._url or not self._key:
            return {"status": PENDING, "why": "no address or key is set (TWINTRACK_STATSIG_DELETION_URL, _KEY)"}
        if subject.kind != "user":
            return {"status": PENDING, "why": "Statsig deletes by user_id alone"}
        # What is cut at line breaks there, and perhaps trimmed, must not name somebody else.
        if any(not user.isprintable() or user != user.strip() for user in subject.users):
            return {"status": PENDING, "why": "the user_id has a line break or such in it: ask Statsig by hand"}
        # Both forms: an application may hash ids itself before it hands them to Statsig, as it may to us.
        body = {"unit_type": "user_id", "ids": "\n".join(subject.users), "delimiter": "\n", "request_id": request_id}
        try:
            answer = httpx.post(self._url, json=body, headers={"statsig-api-key": self._key}, timeout=_SECONDS)
        except httpx.HTTPError as error:
            return {"status": WAITING, "why": f"Statsig did not answer: {type(error).__name__}"}
        if answer.is_success:
            return {"status": ACCEPTED, "request": request_id}
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            return {"status": WAITING, "why": f"Statsig answered {answer.status_code}"}
        return {"status": FAILED, "why": f"Statsig answered {answer.status_code}: ask again by hand"}


class ByHand:
    """A vendor without an interface."""

    def __init__(self, name: str, why: str) -> None:
        self.name, self._why = name, why

    def forget(self, request_id: str, subject: Subject) -> dict[str, str]:
        return {"status": PENDING, "why": self._why}


GTM = ByHand("gtm", "a tag manager keeps nothing itself: ask for deletion where its tags send to, such as GA4")
