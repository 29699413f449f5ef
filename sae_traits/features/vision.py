"""Any vision model of transformers as a backbone, at any of its hidden states, running nothing after that one."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.utils.hooks import RemovableHandle

from sae_traits.config.features import VisionModel
from sae_traits.errors import BackboneError, one_line
from sae_traits.features.image_size import cannot_run, check_even_map, check_whole_patches, forward, patch_side
from sae_traits.features.model_files import WITHOUT_NETWORK, ModelFiles
from sae_traits.features.preprocessing import (
    PreparePixels,
    Preprocessing,
    preprocessing_of,
    reframe,
    with_image_size,
)
from sae_traits.features.store import DTYPES
from sae_traits.geometry import FramingMode
from sae_traits.logging import warn
from sae_traits.schema import BackboneInfo
from sae_traits.vocabulary import Dtype

_BLOCKS_EARLIER = 2
"""By how much the layer that convolutional networks get beside another is earlier; docs/experiments.md has why."""
_IMAGES_AT_ONCE_ON_A_CPU = 4
"""More do not fit the cache, and memory in large pieces is paid for with page faults: with MobileNetV2, 96 images per
second and core at 4 at once, 46 at 16."""


class _Reached(Exception):
    """Ends a forward pass that has done all that is needed."""


@dataclass(frozen=True)
class _Tap:
    """The place in a model where one of its hidden states appears first."""

    module: nn.Module
    side: Literal["input", "output"]
    position: int
    """Among the places that a forward pass comes to."""


class _Taps:
    """A model whose forward passes end where the last of some taps is, from now on until they are removed."""

    def __init__(self, model: nn.Module, taps: Sequence[_Tap]) -> None:
        self._model = model
        self._seen: dict[int, Tensor] = {}
        self._positions = [tap.position for tap in taps]
        self._handles = [self._install(tap) for tap in taps]

    def _install(self, tap: _Tap) -> RemovableHandle:
        def see(module: nn.Module, args: tuple[Any, ...], output: Any = None) -> None:
            hidden = _first_tensor(args if tap.side == "input" else output)
            assert hidden is not None
            self._seen.setdefault(tap.position, hidden)  # later calls of a shared module are another place
            if tap.position == max(self._positions):
                raise _Reached

        if tap.side == "input":
            return tap.module.register_forward_pre_hook(see)
        return tap.module.register_forward_hook(see)

    def hidden(self, pixels: Tensor) -> list[Tensor]:
        """The hidden states at the taps, in the order in which these were given."""
        self._seen.clear()
        try:
            forward(self._model, pixels)
        except _Reached:
            return [self._seen.pop(position) for position in self._positions]
        raise AssertionError("the forward pass went past its taps")

    def remove(self) -> None:
        """Let forward passes go to their end again."""
        for handle in self._handles:
            handle.remove()


class VisionBackbone:
    """A frozen transformers model up to one hidden state, or to the later one of two; a `Backbone`."""

    def __init__(self, taps: _Taps, info: BackboneInfo, device: torch.device) -> None:
        self.info = info
        self.prepare = PreparePixels(info)
        self._taps = taps
        self._device = device

    @torch.no_grad()  # not inference_mode: an SAE must be able to train on these tensors
    def encode(self, batch: Tensor) -> Tensor:
        """Pixels `[n_images, 3, height, width]` -> features `[n_images, rows * columns, d_model]`, float32.

        Raises:
            BackboneError: a feature is not finite, in float16 because it became too large for it.
        """
        at_once = _IMAGES_AT_ONCE_ON_A_CPU if self._device.type == "cpu" else len(batch)
        features = torch.cat([self._encode(some) for some in batch.split(at_once)])
        if not bool(features.isfinite().all()):
            reason = "that are not finite; its weights are damaged, get them again"
            if self.info.compute_dtype == "float16":
                reason = "that float16 cannot hold; choose --compute-dtype bfloat16 or float32"
            raise BackboneError(f"{self.info.backbone} gives numbers {reason}")
        return features

    def _encode(self, batch: Tensor) -> Tensor:
        # To the device first: rounding on the way would be done on the CPU, outside of pinned memory.
        pixels = batch.to(self._device, non_blocking=True).to(DTYPES[self.info.compute_dtype])
        n_patches = self.info.rows * self.info.columns
        states = [patch_vectors(hidden, n_patches).float() for hidden in self._taps.hidden(pixels)]
        return states[0] if len(states) == 1 else torch.cat([normalize(state, dim=2) for state in states], dim=2)


def patch_vectors(hidden: Tensor, n_patches: int) -> Tensor:
    """A hidden state, maps `[n, d_model, rows, columns]` or tokens `[n, n_tokens, d_model]`, as one vector per patch.

    Returns:
        `[n, n_patches, d_model]`, row by row, without the tokens that come before the patches.
    """
    return hidden.flatten(2).transpose(1, 2) if hidden.dim() == 4 else hidden[:, -n_patches:]


def load(model: VisionModel, *, framing: Literal["auto"] | FramingMode, device: torch.device) -> VisionBackbone:
    """The model that a configuration names, framed as its preprocessor or the user says; see `load_backbone`."""
    try:
        files = ModelFiles.find(model.model, model.revision)
    except BackboneError as error:
        if not str(error).endswith(WITHOUT_NETWORK):
            raise
        raise BackboneError(f"{error}, or use --backbone texture, which needs no weights") from error
    _check_is_vision_model(files)
    preprocessing = preprocessing_of(files)
    framed = reframe(with_image_size(preprocessing.framing, model.image_size), framing)
    preprocessing = replace(preprocessing, framing=framed)
    if model.image_size is not None:
        check_whole_patches(files.read_config(), model.image_size, files.name)
    second_layer = "earlier" if model.second_layer is None else model.second_layer
    backbone = _build(files, model.layer, second_layer, preprocessing, model.compute_dtype, device)
    if model.image_size is not None:
        check_even_map(backbone.info)
    return backbone


def restore(info: BackboneInfo, *, device: torch.device) -> VisionBackbone:
    """The model, layers and preprocessing of a record, wherever its weights lie now; see `restore_backbone`."""
    files = ModelFiles.recorded(info.backbone, info.revision)
    preprocessing = Preprocessing(framing=info.framing, mean=info.mean, std=info.std)
    backbone = _build(files, info.layer, info.second_layer, preprocessing, info.compute_dtype, device)
    if differences := info.differences(backbone.info):
        raise BackboneError(
            f"{files.name} gives other patches than recorded: {'; '.join(differences)}; install the version of "
            "transformers that made these features, or extract and train again"
        )
    return backbone


def _build(
    files: ModelFiles,
    layer: int,
    second_layer: int | Literal["earlier"] | None,
    preprocessing: Preprocessing,
    compute_dtype: Dtype,
    device: torch.device,
) -> VisionBackbone:
    if compute_dtype != "float32" and device.type == "cpu":
        warn(
            f"{files.name} computes in {compute_dtype} on a CPU, some five times slower than in float32 "
            "(--compute-dtype)"
        )
    model, loading = files.load_model(DTYPES[compute_dtype])
    tower: nn.Module = getattr(model, "vision_model", model)
    _check_needs_pixels_only(tower, files.name)
    width, height = preprocessing.framing.size
    try:
        trace = _Trace.of(tower, torch.zeros(1, 3, height, width, dtype=DTYPES[compute_dtype]))
    except (ValueError, RuntimeError) as error:
        size, dtype = preprocessing.framing.size, DTYPES[compute_dtype]
        raise cannot_run(tower, size, dtype, files.name, one_line(error)) from error
    layer = trace.index(layer, files.name)
    if second_layer == "earlier":
        second_layer = trace.earlier(layer)
    elif second_layer is not None:
        second_layer = trace.index(second_layer, files.name, "--second-layer")
        second_layer = None if second_layer == layer else second_layer
    layers = [layer]
    if second_layer is not None:
        trace.check_beside(layer, second_layer, files.name)
        layers.append(second_layer)
    states, taps = [trace.states[number] for number in layers], [trace.tap(number, files.name) for number in layers]
    executed = {passed.module for passed in trace.passed[: max(tap.position for tap in taps)]}
    random = sorted(key for key in loading["missing_keys"] if model.get_submodule(key.rpartition(".")[0]) in executed)
    if random:
        raise BackboneError(
            f"the weights of {files.name} lack {len(random)} tensors of its config, for example {random[0]}"
        )
    rows, columns, patch = _layout(states[0], tower, width, height, files.name)
    info = BackboneInfo(
        backbone=files.name,
        revision=files.revision,
        layer=layer,
        d_model=sum(state.shape[1] if state.dim() == 4 else state.shape[2] for state in states),
        rows=rows,
        columns=columns,
        patch=patch,
        framing=preprocessing.framing,
        mean=preprocessing.mean,
        std=preprocessing.std,
        compute_dtype=compute_dtype,
        second_layer=second_layer,
    )
    if patch is not None:
        first = next(index for index, state in enumerate(trace.states) if state.shape == states[0].shape)
        _check_places(tower, trace.tap(first, files.name), info)
    # Convolutions are twice as fast with channels last; transformers have one, in front.
    convert_conv2d_weight_memory_format(tower, torch.channels_last)
    return VisionBackbone(_Taps(tower.to(device), taps), info, device)


def _check_is_vision_model(files: ModelFiles) -> None:
    """Raises BackboneError before any weights are fetched, where the config is not one of a vision model."""
    from transformers import MODEL_MAPPING

    config = files.read_config()
    model_class = MODEL_MAPPING.get(type(config), None)
    is_vision = getattr(config, "vision_config", None) is not None
    if not is_vision and getattr(model_class, "main_input_name", None) != "pixel_values":
        raise BackboneError(
            f"{files.name} ({config.model_type}) is not a vision model; choose one that takes pixel_values, "
            "such as DINOv2, CLIP, SigLIP, ViT or MobileNetV2"
        )


def _check_needs_pixels_only(model: nn.Module, name: str) -> None:
    parameters = inspect.signature(model.forward).parameters.values()
    required = {p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
    if more := ", ".join(sorted(required - {"pixel_values"})):
        raise BackboneError(
            f"{name} needs more than pixel_values ({more}); choose a model of a fixed input size, of SigLIP 2 none of "
            "the NaFlex ones"
        )


@dataclass(frozen=True)
class _Passed:
    """A tensor that went into or came out of a module's first call."""

    module: nn.Module
    side: Literal["input", "output"]
    tensor: weakref.ref[Tensor] | None
    version: int

    def is_still(self, target: Tensor) -> bool:
        """Whether the tensor is `target` and was not changed in place since."""
        return self.tensor is not None and self.tensor() is target and self.version == target._version


@dataclass(frozen=True)
class _Trace:
    """One whole forward pass: its hidden states, and every tensor that went into or came out of a module."""

    states: Sequence[Tensor]
    passed: Sequence[_Passed]

    @classmethod
    @torch.no_grad()
    def of(cls, model: nn.Module, pixels: Tensor) -> _Trace:
        passed: list[_Passed] = []
        called: set[nn.Module] = set()

        def see(module: nn.Module, side: Literal["input", "output"], value: Any) -> None:
            tensor = _first_tensor(value)
            reference = None if tensor is None else weakref.ref(tensor)
            passed.append(_Passed(module, side, reference, 0 if tensor is None else tensor._version))

        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            # A tap stops at a module's first call, so that later calls of a shared module are no candidates.
            if module not in called:
                see(module, "input", args)

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if module not in called:
                called.add(module)
                see(module, "output", output)

        modules = list(model.modules())
        hooks = [module.register_forward_pre_hook(before) for module in modules]
        hooks += [module.register_forward_hook(after) for module in modules]
        try:
            return cls(forward(model, pixels, output_hidden_states=True).hidden_states or (), passed)
        finally:
            for hook in hooks:
                hook.remove()

    def index(self, layer: int, name: str, flag: str = "--layer") -> int:
        """The layer counted from 0."""
        if not self.states:
            raise BackboneError(f"{name} gives no hidden states; choose another backbone")
        last = len(self.states) - 1
        if not -len(self.states) <= layer <= last:
            raise BackboneError(
                f"{name} has hidden states 0 to {last}, not {layer}. Choose {flag} between 0 and {last} "
                "(negative counts from the end; the paper used the second-to-last block)."
            )
        return layer % len(self.states)

    def earlier(self, layer: int) -> int | None:
        """The layer of a convolutional network that stands beside another by default: None of other networks."""
        other = layer - _BLOCKS_EARLIER
        is_beside = other >= 0 and _places_of(self.states[other]) == _places_of(self.states[layer])
        return other if is_beside and self.states[layer].dim() == 4 else None

    def check_beside(self, layer: int, second: int, name: str) -> None:
        """Raise a BackboneError where two hidden states are not of the same patches."""
        places = [_places_of(state) for state in self.states]
        others = [i for i, of_state in enumerate(places) if of_state == places[layer] and i != layer]
        if second not in others:
            choice = f"choose one of {', '.join(map(str, others))}" if others else "leave it out"
            raise BackboneError(
                f"hidden state {second} of {name} cannot stand beside {layer}: it has to be of as many patches. "
                f"For --second-layer {choice}"
            )

    def tap(self, layer: int, name: str) -> _Tap:
        """Where the tensor passes that becomes `hidden_states[layer]`."""
        for position, seen in enumerate(self.passed):
            if seen.is_still(self.states[layer]):
                return _Tap(seen.module, seen.side, position)
        raise BackboneError(f"no module of {name} gives its hidden state {layer} as it is; choose another layer")


@torch.no_grad()
def _check_places(model: nn.Module, tap: _Tap, info: BackboneInfo) -> None:
    """Mark patches one by one and see which feature moves: MAE and Hiera hide, shuffle or unroll them in silence."""
    side, n_patches = int(info.patch or 0), info.rows * info.columns
    marked = sorted({0, 1 % n_patches, info.columns % n_patches, n_patches // 3, n_patches - 1})
    width, height = info.framing.size
    pixels = torch.zeros(1 + len(marked), 3, height, width, dtype=DTYPES[info.compute_dtype])
    noise = torch.randn(3, side, side, generator=torch.Generator().manual_seed(0)).to(pixels.dtype)
    for image, patch in enumerate(marked, start=1):
        row, column = divmod(patch, info.columns)
        pixels[image, :, row * side : (row + 1) * side, column * side : (column + 1) * side] = noise
    taps = _Taps(model, [tap])
    try:
        hidden = taps.hidden(pixels)[0]
    finally:
        taps.remove()
    if len(hidden) != len(pixels):
        raise BackboneError(
            f"{info.backbone} puts the patches of all images into one row, so that they cannot be told apart; choose "
            "another backbone"
        )
    plain, *others = patch_vectors(hidden, n_patches).float()
    for patch, features in zip(marked, others, strict=True):
        change = (features - plain).norm(dim=1)
        # Numbers too large for the dtype say nothing; `encode` refuses them.
        if bool(change.isfinite().all()) and (moved := int(change.argmax())) != patch:
            raise BackboneError(
                f"{info.backbone} does not keep its patches in the order of the image (patch {patch} went to {moved}), "
                "so that features cannot be placed; choose another backbone"
            )


def _places_of(hidden: Tensor) -> torch.Size:
    """Rows and columns of maps, or the number of tokens."""
    return hidden.shape[2:] if hidden.dim() == 4 else hidden.shape[1:2]


def _first_tensor(value: Any) -> Tensor | None:
    """The tensor that a module was given or gave back; blocks that return a tuple put the hidden state first."""
    if isinstance(value, tuple | list):
        value = value[0] if value else None
    return value if isinstance(value, Tensor) else None


def _layout(hidden: Tensor, model: nn.Module, width: int, height: int, name: str) -> tuple[int, int, float | None]:
    """Rows, columns and patch side of a hidden state; the side is None where the map divides the input evenly."""
    shape = list(hidden.shape[1:])
    if hidden.dim() == 4:
        rows, columns = shape[1:]
        # Maps that keep channels last would be read along the wrong axes.
        if abs(rows / columns - height / width) > 1 / min(rows, columns):
            raise BackboneError(f"{name} gives maps {shape}, not [channels, rows, columns]; choose another layer")
        return rows, columns, None
    patch = patch_side(model.config)
    if hidden.dim() != 3 or patch is None:
        raise BackboneError(f"{name} gives hidden states {shape}, which are not one vector per square patch")
    rows, columns = height // patch, width // patch
    if shape[0] < rows * columns:
        raise BackboneError(
            f"{name} gives {shape[0]} tokens at this layer, fewer than {rows} x {columns} patches, so that they cannot "
            "be placed in the image; choose another layer or backbone"
        )
    return rows, columns, float(patch)
