"""What may go wrong between a client and the loopback Hub: `hub.faults[7] = Fault("lost")` for its seventh request."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import Literal

from hub.repositories import HubError

FaultKind = Literal["429", "500", "409", "412", "reset", "lost", "cut", "slow"]
FAULT_KINDS: tuple[FaultKind, ...] = ("429", "500", "409", "412", "reset", "lost", "cut", "slow")
STATUS_MESSAGES = {
    "429": "Too many requests",
    "500": "Internal error",
    "409": "Cannot create repo: another conflicting operation is in progress",
    "412": "A commit has happened since. Please refresh and try again.",
}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    A status of HTTP: the Hub does nothing and says so. `reset`: the connection is reset before the Hub has acted;
    `lost`: after it has acted, so that nobody hears of it; `cut`: in the middle of the answer. `slow`: the answer comes
    in two halves with a pause between them.
    """

    kind: FaultKind
    seconds: float = 0.1
    """Length of the pause."""

    def before(self) -> None:
        """Raise what happens before the Hub acts.

        Raises:
            HubError: the answer, instead of the real one; a limit of the rate allows to come back at once.
            ConnectionResetError: there is none.
        """
        if self.kind in STATUS_MESSAGES:
            headers = {"Retry-After": "0"} if self.kind == "429" else {}
            raise HubError(int(self.kind), STATUS_MESSAGES[self.kind], headers=headers)
        if self.kind == "reset":
            raise ConnectionResetError


def reset(connection: socket.socket) -> None:
    """Close a connection so that the other side sees it reset (RST) and not ended (FIN)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())
