"""What this machine has, and what is missing for a task: `sae-traits doctor`."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sae_traits import __version__
from sae_traits.errors import one_line

PACKAGES = ("torch", "transformers", "datasets", "huggingface_hub", "accelerate", "numpy", "pyarrow", "pillow")
SECONDS_FOR_THE_HUB = 5.0
GIGABYTE = 1e9


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a task takes besides the package itself."""

    about: str
    module: str | None = None
    """To be importable."""
    install: str | None = None
    """What installs the module."""
    gpu: bool = False
    hub: bool = False
    """To fetch weights that are not here yet, or to publish."""
    token: bool = False
    gigabytes: float = 1.0
    """Of free disk, at the least."""


TASKS: dict[str, Needs] = {
    "demo": Needs(about="the whole pipeline on drawings", gigabytes=0.2),
    "run": Needs(about="own photographs with a backbone of the Hub", hub=True),
    "describe-vllm": Needs(about="--describer vllm", module="vllm", install="sae-traits[vllm]", gpu=True, hub=True),
    "describe-transformers": Needs(about="--describer transformers", gpu=True, hub=True, gigabytes=20),
    "evaluate-clip": Needs(about="--clip ORG/MODEL", hub=True),
    "finetune-lora": Needs(about="finetune with adapters", module="peft", install="sae-traits[lora]", hub=True),
    "launch-ray": Needs(about="launch --engine ray", module="ray", install="sae-traits[ray]"),
    "excel": Needs(about="tables as .xlsx", module="openpyxl", install="sae-traits[excel]"),
    "heic": Needs(about="photographs as HEIC", module="pillow_heif", install="sae-traits[heic]"),
    "publish": Needs(about="both repositories on the Hub", hub=True, token=True),
}


@dataclass(frozen=True)
class Machine:
    """What a machine has, and what it lacks for each task."""

    versions: Mapping[str, str | None]
    """Package -> version; None where it is not installed."""
    processors: int
    devices: tuple[str, ...]
    """GPUs by name and memory; empty without one."""
    hub: str
    """Address of the Hub."""
    hub_problem: str | None
    """Why the Hub cannot be used; None where it answers."""
    user: str | None
    """Whose token there is, as the Hub says; None without one, or where the Hub does not accept it."""
    free: Mapping[str, float]
    """Folder -> free bytes: where we are, and the cache of the Hub."""
    missing: Mapping[str, tuple[str, ...]]
    """Task -> what it lacks; nothing where it can begin."""

    def lines(self) -> list[str]:
        found = ", ".join(f"{name} {number or 'missing'}" for name, number in self.versions.items())
        access = self.hub_problem or (f"answers, signed in as {self.user}" if self.user else "answers, no token")
        width = max(map(len, self.missing), default=0)
        return [
            f"versions  {found}",
            f"devices   {self.processors} processors; {', '.join(self.devices) or 'no GPU'}",
            f"Hub       {self.hub}: {access}",
            *(f"disk      {free / GIGABYTE:,.1f} GB free at {folder}" for folder, free in self.free.items()),
            "",
            *(
                f"{task:{width}}  {'; '.join(lacks) if lacks else 'ready'} ({TASKS[task].about})"
                for task, lacks in self.missing.items()
            ),
        ]


def examine(*tasks: str) -> Machine:
    """Look at this machine, and at what some tasks lack; at all tasks where none is named."""
    from huggingface_hub import constants

    problem, user = _hub_access()
    devices = _devices()
    cache = Path(constants.HF_HOME)
    free = {str(folder): float(shutil.disk_usage(_existing(folder)).free) for folder in (Path.cwd(), cache)}
    has = {"gpu": bool(devices), "hub": problem is None, "token": user is not None}
    return Machine(
        versions={"python": platform.python_version(), "sae-traits": __version__, **{p: _version(p) for p in PACKAGES}},
        processors=os.cpu_count() or 1,
        devices=devices,
        hub=constants.ENDPOINT,
        hub_problem=problem,
        user=user,
        free=free,
        missing={task: _missing(TASKS[task], min(free.values()), **has) for task in tasks or TASKS},
    )


def _missing(needs: Needs, free: float, *, gpu: bool, hub: bool, token: bool) -> tuple[str, ...]:
    lacks = []
    if needs.module is not None and find_spec(needs.module) is None:
        lacks.append(f"pip install '{needs.install}'")
    if needs.gpu and not gpu:
        lacks.append("a GPU")
    if needs.hub and not hub:
        lacks.append("the Hub, for what is not in its cache")
    if needs.token and not token:
        lacks.append("a token that the Hub accepts (HF_TOKEN or `hf auth login`)")
    if free < needs.gigabytes * GIGABYTE:
        lacks.append(f"{needs.gigabytes:g} GB of disk")
    return tuple(lacks)


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # `doctor --help` needs none

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> tuple[str, ...]:
    import torch

    if torch.backends.mps.is_available():
        return ("Apple GPU (mps)",)
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return tuple(f"{one.name} ({one.total_memory / GIGABYTE:.0f} GB)" for one in found)


def _hub_access() -> tuple[str | None, str | None]:
    """Why the Hub cannot be used, and whose token there is."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]  # of httpx or httpx2
    from huggingface_hub.utils import build_hf_headers

    if constants.HF_HUB_OFFLINE:
        return "is not asked (HF_HUB_OFFLINE)", None
    address = f"{constants.ENDPOINT}/api/whoami-v2"
    try:
        answer = get_session().get(address, headers=build_hf_headers(), timeout=SECONDS_FOR_THE_HUB)
    except (HTTPError, OSError) as error:
        return f"cannot be reached: {one_line(error, max_length=120)}", None
    if answer.status_code >= 500:
        return f"answers with {answer.status_code}", None
    return None, answer.json()["name"] if answer.status_code == 200 else None  # without a token it is 401


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())
