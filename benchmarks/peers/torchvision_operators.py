"""Makes torchvision importable beside the CPU build of torch.

The package index serves torchvision built against CUDA: its compiled operators do not load, and its import then fails
at the first registration for one of them. Declared without an implementation they are enough: no SAE calls them.
"""

from importlib.util import find_spec

import torch

_OPERATORS = ("nms", "qnms")
_declared: list[torch.library.Library] = []  # a Library takes its operators with it when it is collected


def declare_missing_operators() -> None:
    """Call before the first import of torchvision; does nothing where its operators load, or where it is absent."""
    spec = find_spec("torchvision")
    if spec is None or spec.submodule_search_locations is None:
        return
    if torch.version.cuda is not None:  # the build that torchvision was made for
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in _OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
