"""What the loopback Hub answers about who may read, and about collections."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hub.messages import Reply, Request
from hub.repositories import Collection, HubError, Repository

if TYPE_CHECKING:
    from hub.answers import Hub


def settings(hub: Hub, request: Request, kind: str, repo_id: str) -> Reply:
    """Who may see a repository, and whether one has to ask for its files."""
    repository, _ = hub.writable(request, kind, repo_id)
    values = json.load(request.body)
    repository.gated = values.get("gated", repository.gated)
    repository.private = values.get("visibility", "private" if repository.private else "public") == "private"
    hub.store.save(repository)
    return Reply({})


def refuse_ungranted(repository: Repository, request: Request) -> None:
    """The files of a gated repository are for its owners, and for accounts in `repository.readers`."""
    if not repository.gated:
        return
    if request.account is None:
        raise HubError(401, f"Access to {repository.repo_id} is restricted; log in.", "GatedRepo")
    if not request.account.may_write(repository.repo_id) and request.account.name not in repository.readers:
        raise HubError(403, f"Access to {repository.repo_id} is restricted; ask for access.", "GatedRepo")


def collections(hub: Hub, request: Request) -> Reply:
    """Those of an owner, the newest first and only a few items of each; or a new one."""
    if request.method == "GET":
        owners = request.query.get("owner", [])
        found = [_described(one, n_items=4) for one in hub.store.collections.values() if one.owner in owners]
        return Reply(found[::-1])  # the client counts their positions itself
    values = json.load(request.body)
    owner = values["namespace"]
    request.writer(f"{owner}/")
    slug = f"{owner}/{values['title'].lower().replace(' ', '-')}-{len(hub.store.collections):024x}"
    hub.store.collections[slug] = Collection(slug, values["title"], owner, bool(values.get("private")))
    return Reply(_described(hub.store.collections[slug]) | {"position": 0})


def collection(hub: Hub, request: Request, slug: str) -> Reply:
    return Reply(_described(_find(hub, slug)) | {"position": 0})


def add_item(hub: Hub, request: Request, slug: str) -> Reply:
    found = _find(hub, slug)
    request.writer(slug)
    item = json.load(request.body)["item"]
    hub.readable(request, item["type"], item["id"])
    if (item["type"], item["id"]) in found.items:
        raise HubError(409, "The item is in the collection already")
    found.items.append((item["type"], item["id"]))
    return Reply(_described(found) | {"position": 0})


def _find(hub: Hub, slug: str) -> Collection:
    if slug not in hub.store.collections:
        raise HubError(404, "Collection not found")
    return hub.store.collections[slug]


def _described(one: Collection, n_items: int | None = None) -> dict[str, Any]:
    items = [
        {"_id": f"{position:024x}", "type": kind, "id": repo_id, "position": position}
        for position, (kind, repo_id) in enumerate(one.items[:n_items])
    ]
    return {
        "slug": one.slug,
        "title": one.title,
        "owner": {"name": one.owner},
        "items": items,
        "lastUpdated": "2026-01-01T00:00:00.000Z",
        "private": one.private,
        "theme": "green",
        "upvotes": 0,
    }
