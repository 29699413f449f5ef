"""What the Hub's clients raise, as one line that says what happened and what to do, without a token."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from datasets.exceptions import DatasetsError
from huggingface_hub import get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # of httpx or httpx2, as huggingface_hub is 1 or 2
    OfflineModeIsEnabled,
)

from sae_traits.errors import ReleaseError

AGAIN = "run the same command again, it goes on where it stopped"


@contextmanager
def errors_in_one_line(repo_id: str, endpoint: str) -> Iterator[None]:
    """Turn what the Hub's clients raise into a ReleaseError."""
    try:
        yield
    except HFValidationError as error:
        raise ReleaseError(f"{repo_id!r} is not the name of a repository; write it as NAME/REPOSITORY") from error
    except (HTTPError, OSError, ValueError, RuntimeError, DatasetsError) as error:
        reason = error
        # An upload of large files, and the datasets library, wrap what went wrong in an error of their own.
        while isinstance(reason, RuntimeError | DatasetsError) and isinstance(reason.__cause__, Exception):
            reason = reason.__cause__
        raise ReleaseError(_without_token(_explain(reason, repo_id, endpoint), get_token())) from error


def _without_token(text: str, token: str | None) -> str:
    text = text.replace(token, "…") if token else text
    return re.sub(r"\bhf_\w+", "hf_…", text)


def _explain(error: BaseException, repo_id: str, endpoint: str) -> str:
    reason = " ".join(str(error).split())
    if isinstance(error, OfflineModeIsEnabled):
        return f"cannot publish {repo_id} offline; unset HF_HUB_OFFLINE and {AGAIN}"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        seconds = error.response.headers.get("Retry-After", "300")
        advice = {
            401: f"{endpoint} wants a valid token for {repo_id}; set HF_TOKEN or run `hf auth login`",
            403: f"your token may not write to {repo_id}; use one that may, or a name under your own account",
            404: f"{repo_id} does not exist on {endpoint}, or your token may not see it; check the name",
            409: f"{endpoint} is busy with another change of {repo_id}; {AGAIN}",
            412: f"{repo_id} changed meanwhile: somebody else pushed to it, so nothing was published; "
            "look at its newest commit, and if it may stay, run the same command again",
            429: f"{endpoint} limits requests, {repo_id} has to wait; run the same command again in {seconds} seconds",
        }
        if status >= 500:
            return f"{endpoint} has a problem of its own ({status}) with {repo_id}; {AGAIN}"
        return advice.get(status, f"{endpoint} refused to publish {repo_id} ({status}): {reason}")
    if isinstance(error, HTTPError):
        return f"cannot reach {endpoint} to publish {repo_id} ({reason}); check the connection, then {AGAIN}"
    return f"cannot publish {repo_id}: {reason}; mend that, then {AGAIN}"
