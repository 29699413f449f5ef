"""What goes in and out of the loopback Hub, without HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from hub.repositories import HubError


@dataclass(frozen=True)
class Account:
    """Who may write where."""

    name: str
    organisations: tuple[str, ...] = ()

    def may_write(self, repo_id: str) -> bool:
        """Whether the namespace of a repository is the account's own or one of its organisations."""
        return repo_id.split("/")[0] in (self.name, *self.organisations)


@dataclass(frozen=True)
class Request:
    """A request; `account` is None without a token."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: BinaryIO
    account: Account | None

    def flag(self, name: str) -> bool:
        """Whether a query option is on."""
        return self.query.get(name, ["false"])[0].lower() in ("true", "1")

    def signed_in(self) -> Account:
        """The account.

        Raises:
            HubError: 401 without a token.
        """
        if self.account is None:
            raise HubError(401, "Invalid username or password.")
        return self.account

    def writer(self, repo_id: str) -> Account:
        """The account, which may write to a repository.

        Raises:
            HubError: 401 without a token, 403 in the namespace of others.
        """
        account = self.signed_in()
        if not account.may_write(repo_id):
            raise HubError(403, f"You don't have the rights to write to {repo_id}")
        return account


@dataclass(frozen=True)
class Reply:
    """An answer: JSON, or a file."""

    body: Any = None
    file: Path | None = None
    headers: dict[str, str] = field(default_factory=dict)
