"""What the loopback Hub answers, one function an endpoint, without HTTP: a Request in, a Reply or a HubError out."""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, quote, unquote, urlencode

import yaml
from hub import sharing
from hub.faults import Fault
from hub.messages import Account, Reply, Request
from hub.repositories import Commit, File, HubError, Repository, RepoType, Store, folder_oid, listing

LARGE = 10 * 1024 * 1024
"""Files of more bytes are LFS files whatever their name."""


class Hub:
    """The state behind the answers."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.store = Store(folder)
        self.token, self.other_token = f"hf_{secrets.token_hex(17)}", f"hf_{secrets.token_hex(17)}"
        self.accounts = {self.token: Account("curator", ("museum",)), self.other_token: Account("visitor")}
        self.page_size = 1000
        """Entries a reply of a listing."""
        self.requests_left: int | None = None
        """How many requests are answered before the rate limit; None is no limit."""
        self.requests: list[str] = []
        """Method and path of every request, in order."""
        self.listeners: list[Callable[[str], None]] = []
        """Told of every request before it is answered, with its method and path; a test acts here as someone else."""
        self.uploads: dict[str, str] = {}
        """Secret of an upload address -> sha256 that may be put there."""
        self.faults: dict[int, Fault] = {}
        """Number of a request, from 1 -> what goes wrong with it."""
        self.n_received = 0
        """Requests that came, answered or not; set it to 0 to count anew."""
        self.n_bytes_sent = 0
        """Of the files of repositories; set it to 0 to count anew."""
        self._lock = threading.RLock()

    def answer(self, request: Request) -> Reply:
        """Find the endpoint of a request and ask it.

        Raises:
            HubError: any answer other than success.
        """
        with self._lock:
            self.requests.append(f"{request.method} {request.path}")
            for listener in self.listeners:
                listener(self.requests[-1])
            if self.requests_left is not None:
                if self.requests_left == 0:
                    raise HubError(429, "Too many requests", headers={"Retry-After": "30"})
                self.requests_left -= 1
            for methods, pattern, endpoint in ENDPOINTS:
                match = pattern.fullmatch(request.path)
                method = "GET" if request.method == "HEAD" else request.method
                if match and method in methods.split():
                    return endpoint(self, request, **{k: unquote(v) for k, v in match.groupdict(default="").items()})
        raise HubError(404, f"There is nothing at {request.method} {request.path}", "RepoNotFound")

    def receive(self) -> Fault | None:
        """Count a request that comes in, and say what is to go wrong with it."""
        with self._lock:
            self.n_received += 1
            return self.faults.pop(self.n_received, None)

    def page(self, repository: Repository) -> str:
        """The address of a repository's page."""
        return (
            f"{self.url}/{'' if repository.repo_type == 'model' else f'{repository.repo_type}s/'}{repository.repo_id}"
        )

    def readable(self, request: Request, kind: str, repo_id: str) -> Repository:
        """A repository that the account may read, or 401 or 404: the Hub does not tell private from missing."""
        repo_type: RepoType = (
            "dataset" if kind.startswith("dataset") else "space" if kind.startswith("space") else "model"
        )
        repository = self.store.repositories.get((repo_type, repo_id))
        if repository is None or (repository.private and not (request.account and request.account.may_write(repo_id))):
            raise HubError(404 if request.account else 401, "Repository not found", "RepoNotFound")
        return repository

    def writable(self, request: Request, kind: str, repo_id: str) -> tuple[Repository, Account]:
        """A repository and the account, which may write to it, or 401, 403 or 404."""
        repository = self.readable(request, kind, repo_id)
        return repository, request.writer(repo_id)


def whoami(hub: Hub, request: Request) -> Reply:
    account = request.signed_in()
    auth = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": "write"}}
    return Reply(
        {"name": account.name, "type": "user", "orgs": [{"name": n} for n in account.organisations], "auth": auth}
    )


def validate_yaml(hub: Hub, request: Request) -> Reply:
    try:
        _card_metadata(json.load(request.body)["content"])
    except yaml.YAMLError as error:
        message = " ".join(str(error).split())
        raise HubError(400, "Invalid metadata", body={"errors": [{"message": message}], "warnings": []}) from error
    return Reply({"errors": [], "warnings": []})


def _card_metadata(text: str) -> Any:
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    return yaml.safe_load(front[1]) if front else None


def create_or_delete(hub: Hub, request: Request, verb: str) -> Reply:
    values = json.load(request.body)
    repo_type = cast(RepoType, values.get("type") or "model")
    repo_id = f"{values.get('organization') or request.signed_in().name}/{values['name']}"
    account = request.writer(repo_id)
    if verb == "create" and (values.get("sdk") == "static") != (repo_type == "space"):
        raise HubError(400, "a Space, and nothing else, has an sdk")
    if verb == "delete":
        hub.store.delete(hub.readable(request, repo_type, repo_id))
        return Reply({})
    if existing := hub.store.repositories.get((repo_type, repo_id)):
        raise HubError(409, f"You already created this {repo_type} repo", body={"url": hub.page(existing)})
    repository = hub.store.create(repo_type, repo_id, values.get("visibility") == "private", account.name)
    return Reply({"url": hub.page(repository)})


def info(hub: Hub, request: Request, kind: str, repo_id: str, revision: str) -> Reply:
    repository = hub.readable(request, kind, repo_id)
    commit = repository.find(revision or "main")
    readme = commit.files.get("README.md")
    values: dict[str, Any] = {
        "id": repo_id,
        "author": repo_id.split("/")[0],
        "sha": commit.oid,
        "createdAt": repository.created,
        "lastModified": commit.date,
        "private": repository.private,
        "gated": repository.gated,
        "tags": [],
        "downloads": 0,
        "cardData": _card_metadata(hub.store.object_path(readme.sha256).read_text("utf-8")) if readme else None,
        "siblings": [_sibling(path, file, request.flag("blobs")) for path, file in commit.files.items()],
    }
    wanted = {"id", *request.query.get("expand", values)}
    return Reply({name: value for name, value in values.items() if name in wanted})


def _sibling(path: str, file: File, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": path}
    large = {"lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": file.pointer_size}} if file.lfs else {}
    return {"rfilename": path, "size": file.size, "blobId": file.oid} | large


def tree(hub: Hub, request: Request, kind: str, repo_id: str, revision: str, folder: str) -> Reply:
    repository = hub.readable(request, kind, repo_id)
    commit = repository.find(revision)
    found = listing(commit, folder, request.flag("recursive"))
    entries = [_entry(repository, commit, p, f, request.flag("expand")) for p, f in found.items()]
    return _one_page(hub, request, entries)


def paths_info(hub: Hub, request: Request, kind: str, repo_id: str, revision: str) -> Reply:
    repository = hub.readable(request, kind, repo_id)
    commit = repository.find(revision)
    form = parse_qs(request.body.read().decode())
    known = listing(commit, "", recursive=True)
    expand = form.get("expand", ["false"])[0] == "true"
    return Reply([_entry(repository, commit, p, known[p], expand) for p in form.get("paths", []) if p in known])


def _entry(repository: Repository, commit: Commit, path: str, file: File | None, expand: bool) -> dict[str, Any]:
    if file is None:
        entry: dict[str, Any] = {"type": "directory", "path": path, "oid": folder_oid(commit, path), "size": 0}
    else:
        entry = {"type": "file", "path": path, "oid": file.oid, "size": file.size}
        if file.lfs:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
    if expand:
        last = repository.last_change(commit, path)
        entry["lastCommit"] = {"id": last.oid, "title": last.title, "date": last.date}
    return entry


def commits(hub: Hub, request: Request, kind: str, repo_id: str, revision: str) -> Reply:
    repository = hub.readable(request, kind, repo_id)
    found = [
        {"id": c.oid, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": c.author}]}
        for c in repository.history(repository.find(revision))
    ]
    return _one_page(hub, request, found)


def _one_page(hub: Hub, request: Request, entries: list[dict[str, Any]]) -> Reply:
    start = int(request.query.get("cursor", ["0"])[0])
    stop = start + hub.page_size
    headers = {}
    if stop < len(entries):
        query = urlencode(request.query | {"cursor": [str(stop)]}, doseq=True)
        headers["Link"] = f'<{hub.url}{request.path}?{query}>; rel="next"'
    return Reply(entries[start:stop], headers=headers)


def refs(hub: Hub, request: Request, kind: str, repo_id: str) -> Reply:
    repository = hub.readable(request, kind, repo_id)
    branches, tags = (
        [{"name": name, "ref": f"refs/{where}/{name}", "targetCommit": oid} for name, oid in names.items()]
        for where, names in (("heads", repository.branches), ("tags", repository.tags))
    )
    return Reply({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})


def create_ref(hub: Hub, request: Request, kind: str, repo_id: str, verb: str, name: str) -> Reply:
    """`tag/<revision>` with the tag in the body, or `branch/<name>` with the revision in the body."""
    repository, _ = hub.writable(request, kind, repo_id)
    values = json.load(request.body)
    if verb == "tag":
        names, new, revision = repository.tags, values["tag"], name
    else:
        names, new, revision = repository.branches, name, values.get("startingPoint", "main")
    if new in names:
        raise HubError(409, f"The {verb} {new} already exists")
    names[new] = repository.find(revision).oid
    hub.store.save(repository)
    return Reply({})


def delete_ref(hub: Hub, request: Request, kind: str, repo_id: str, verb: str, name: str) -> Reply:
    repository, _ = hub.writable(request, kind, repo_id)
    names = repository.tags if verb == "tag" else repository.branches
    if name not in names or name == "main":
        raise HubError(403 if name == "main" else 404, f"Cannot delete the {verb} {name}", "RevisionNotFound")
    del names[name]
    hub.store.save(repository)
    return Reply({})


def preupload(hub: Hub, request: Request, kind: str, repo_id: str, revision: str) -> Reply:
    """Which way each file goes, and what is there already: sha256 for LFS, git's hash otherwise."""
    repository, _ = hub.writable(request, kind, repo_id)
    commit = repository.find(revision)
    patterns: list[str] = []
    if attributes := commit.files.get(".gitattributes"):
        lines = hub.store.object_path(attributes.sha256).read_text().splitlines()
        patterns = [line.split()[0] for line in lines if "filter=lfs" in line]
    answers = []
    for file in json.load(request.body)["files"]:
        lfs = file["size"] > LARGE or any(fnmatch(file["path"].split("/")[-1], pattern) for pattern in patterns)
        answer = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
        if (present := commit.files.get(file["path"])) and present.lfs == lfs:
            answer["oid"] = present.sha256 if lfs else present.oid
        answers.append(answer)
    return Reply({"files": answers})


def lfs_batch(hub: Hub, request: Request, kind: str, repo_id: str) -> Reply:
    hub.writable(request, kind, repo_id)
    answers = []
    for item in json.load(request.body)["objects"]:
        answer = {"oid": item["oid"], "size": item["size"]}
        if not hub.store.object_path(item["oid"]).is_file():
            secret = secrets.token_urlsafe()
            hub.uploads[secret] = item["oid"]
            answer["actions"] = {"upload": {"href": f"{hub.url}/uploads/{secret}"}}
        answers.append(answer)
    return Reply({"transfer": "basic", "objects": answers})


def upload(hub: Hub, request: Request, secret: str) -> Reply:
    """As with signed addresses of an object store, the address alone allows the upload."""
    expected = hub.uploads.pop(secret, None)
    if expected is None:
        raise HubError(403, "This upload address was not given out, or was used")
    if hub.store.add_object(request.body) != expected:
        raise HubError(400, "The content does not have the announced sha256")
    return Reply({})


def commit(hub: Hub, request: Request, kind: str, repo_id: str, revision: str) -> Reply:
    """All operations or none."""
    repository, account = hub.writable(request, kind, repo_id)
    if revision not in repository.branches:
        raise HubError(404, f"{revision} is not a branch", "RevisionNotFound")
    header, *operations = [json.loads(line) for line in request.body]
    parent = header["value"].get("parentCommit")
    if parent not in (None, repository.branches[revision]):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    files = dict(repository.find(revision).files)
    for operation in operations:
        _apply(hub.store, files, operation["key"], operation["value"])
    summary, description = header["value"]["summary"], header["value"].get("description", "")
    new = repository.add_commit(revision, summary, description, account.name, files)
    hub.store.save(repository)
    return Reply({"success": True, "commitOid": new.oid, "commitUrl": f"{hub.page(repository)}/commit/{new.oid}"})


def _apply(store: Store, files: dict[str, File], key: str, value: dict[str, Any]) -> None:
    path = value["path"].rstrip("/")
    if key == "file":
        files[path] = store.regular_file(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        files[path] = store.lfs_file(value["oid"])
    elif key in ("deletedFile", "deletedFolder"):
        gone = [p for p in files if (p == path if key == "deletedFile" else p.startswith(f"{path}/"))]
        if not gone:
            raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        for name in gone:
            del files[name]
    else:
        raise HubError(400, f"Unknown operation {key}")


def resolve(hub: Hub, request: Request, kind: str, repo_id: str, revision: str, path: str) -> Reply:
    repository = hub.readable(request, kind, repo_id)
    sharing.refuse_ungranted(repository, request)
    state = repository.find(revision)
    headers = {"X-Repo-Commit": state.oid}
    file = state.files.get(path)
    if file is None:
        raise HubError(404, "Entry not found", "EntryNotFound", headers)
    headers |= {"ETag": f'"{file.sha256 if file.lfs else file.oid}"', "Content-Type": "application/octet-stream"}
    headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(path.split('/')[-1])}"
    if file.lfs:
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
    return Reply(file=hub.store.object_path(file.sha256), headers=headers)


_API = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo_id>[^/]+/[^/]+)"
_PAGE = r"/(?P<kind>(?:datasets|spaces)/)?(?P<repo_id>(?!api/)[^/]+/[^/]+)"
_REVISION = r"/(?P<revision>[^/]+)"
ENDPOINTS: list[tuple[str, re.Pattern[str], Callable[..., Reply]]] = [
    (methods, re.compile(pattern), endpoint)
    for methods, pattern, endpoint in (
        ("GET", r"/api/whoami-v2", whoami),
        ("POST", r"/api/validate-yaml", validate_yaml),
        ("POST DELETE", r"/api/repos/(?P<verb>create|delete)", create_or_delete),
        ("GET", rf"{_API}(?:/revision{_REVISION})?", info),
        ("GET", rf"{_API}/tree{_REVISION}(?:/(?P<folder>.+))?", tree),
        ("POST", rf"{_API}/paths-info{_REVISION}", paths_info),
        ("GET", rf"{_API}/commits{_REVISION}", commits),
        ("GET", rf"{_API}/refs", refs),
        ("POST", rf"{_API}/(?P<verb>tag|branch)/(?P<name>[^/]+)", create_ref),
        ("DELETE", rf"{_API}/(?P<verb>tag|branch)/(?P<name>[^/]+)", delete_ref),
        ("PUT", rf"{_API}/settings", sharing.settings),
        ("GET POST", r"/api/collections", sharing.collections),
        ("GET", r"/api/collections/(?P<slug>[^/]+/[^/]+)", sharing.collection),
        ("POST", r"/api/collections/(?P<slug>[^/]+/[^/]+)/items", sharing.add_item),
        ("POST", rf"{_API}/preupload{_REVISION}", preupload),
        ("POST", rf"{_API}/commit{_REVISION}", commit),
        ("POST", rf"{_PAGE}\.git/info/lfs/objects/batch", lfs_batch),
        ("PUT", r"/uploads/(?P<secret>[^/]+)", upload),
        ("GET", rf"{_PAGE}/resolve{_REVISION}/(?P<path>.+)", resolve),
    )
]
"""Methods, path as it is quoted on the wire, and who answers."""
