"""Sweeps: what is trained, what it is called, what is recommended."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sae_traits.config.train import ReLU, TopK, TrainConfig
from sae_traits.config.tree import build
from sae_traits.errors import ConfigError
from sae_traits.sae.sweep import (
    RULE,
    expand,
    folder_name,
    parse_sweep,
    recommend,
    seeds_of_settings,
    settings_of,
    sweep_lines,
)

OPTIONS = {
    "architecture": st.sampled_from(["topk", "batch_topk", "jump_relu", "relu"]),
    "k": st.integers(1, 50),
    "n_latents": st.integers(200, 30_000),
    "prefixes": st.lists(st.integers(1, 199), max_size=3, unique=True).map(lambda ends: tuple(sorted(ends))),
    "l1_coefficient": st.floats(0, 1e20),
    "l0_coefficient": st.floats(0, 10),
    "learning_rate": st.floats(1e-12, 1e3),
    "max_gradient_norm": st.none() | st.floats(1e-3, 1e3),
    "seed": st.integers(0, 10**6),
}


@st.composite
def sweeps(draw: st.DrawFn) -> dict[str, list]:
    names = draw(st.lists(st.sampled_from(sorted(OPTIONS)), unique=True, max_size=4))
    return {name: draw(st.lists(OPTIONS[name], min_size=1, max_size=3)) for name in names}


def test_a_sweep_is_the_product_of_what_varies_the_last_option_fastest():
    found = expand(TrainConfig(n_latents=64), parse_sweep("k=8,16,32 seed=0,1"))
    assert [(one.architecture.k, one.seed) for one in found] == [(8, 0), (8, 1), (16, 0), (16, 1), (32, 0), (32, 1)]
    assert {one.n_latents for one in found} == {64}
    assert expand(TrainConfig(), {}) == [TrainConfig()]


def test_options_are_written_as_on_the_command_line_and_converted():
    sweep = parse_sweep("l1-coefficient=1e-4,4e-4 prefixes=none,96+384 max_gradient_norm=none,1")
    found = expand(TrainConfig(architecture=ReLU()), sweep)
    assert [(one.architecture.l1_coefficient, one.prefixes, one.max_gradient_norm) for one in found] == [
        (weight, prefixes, norm) for weight in (1e-4, 4e-4) for prefixes in ((), (96, 384)) for norm in (None, 1.0)
    ]


def test_an_option_that_an_architecture_does_not_have_makes_no_second_sae():
    found = expand(TrainConfig(), parse_sweep("architecture=topk,relu k=8,16 l1_coefficient=1e-4,4e-4,8e-4"))
    assert [folder_name(one, ["architecture", "k", "l1_coefficient"]) for one in found] == [
        "topk-k8",
        "topk-k16",
        "relu-l1_coefficient0.0001",
        "relu-l1_coefficient0.0004",
        "relu-l1_coefficient0.0008",
    ]
    assert {type(one.architecture) for one in found[:2]} == {TopK}


def test_the_same_value_twice_is_one_sae():
    assert len(expand(TrainConfig(), {"k": [8, "8"], "learning_rate": [1e-3, "0.001"]})) == 1


@pytest.mark.parametrize(
    ("text", "config", "expected"),
    [
        ("", {}, "varies nothing"),
        ("k", {}, "without spaces in 'k'"),
        ("k=", {}, "without spaces in 'k='"),
        ("k=8,,16", {}, "without spaces in 'k=8,,16'"),
        ("k=8, 16", {}, "without spaces in 'k=8,'"),
        ("=8", {}, "without spaces in '=8'"),
        ("k=8 k=16", {}, "varies k twice"),
        ("depth=2", {}, "there is no option 'depth'"),
        ("batch_size=8,16", {}, "cannot vary batch_size: its SAEs are trained on the same batches"),
        ("n_patches=8,9", {}, "cannot vary n_patches"),
        ("sae=a,b", {}, "there is no option 'sae'"),
        ("tracker=a,b", {}, "varies tracker, which topk does not use"),
        ("sweep=a", {}, "varies sweep, which topk does not use"),
        ("k=many", {}, "k: must be a whole number, not 'many'"),
        ("k=none", {}, "k: .* not None"),
        ("architecture=topk,gated", {}, "must be one of topk, .* not 'gated'"),
        ("k=8,99", {"n_latents": 64}, r"k \(99\) cannot exceed n_latents \(64\)"),
        ("prefixes=384+96", {}, "prefixes must rise"),
        ("k=8,16", {"architecture": ReLU()}, "varies k, which relu does not use"),
    ],
)
def test_a_sweep_that_cannot_be_is_one_clear_line(text: str, config: dict, expected: str):
    with pytest.raises(ConfigError, match=expected) as caught:
        expand(TrainConfig(**config), parse_sweep(text))
    assert "\n" not in str(caught.value)


def test_an_option_without_values_is_refused():
    with pytest.raises(ConfigError, match="gives k no value"):
        expand(TrainConfig(), {"k": []})


@pytest.mark.parametrize(
    ("config", "varied", "expected"),
    [
        (TrainConfig(), ("k", "seed"), "topk-k16-seed0"),
        (TrainConfig(architecture=ReLU()), ("architecture",), "relu"),
        (TrainConfig(prefixes=(96, 384)), ("prefixes",), "topk-prefixes96_384"),
        (TrainConfig(), ("prefixes", "max_gradient_norm"), "topk-prefixesnone-max_gradient_normnone"),
        (TrainConfig(learning_rate=1e-5), ("learning_rate",), "topk-learning_rate1e-05"),
        (TrainConfig(learning_rate=1e16), ("learning_rate",), "topk-learning_rate1e16"),
    ],
)
def test_a_folder_is_named_by_what_varies(config: TrainConfig, varied: tuple[str, ...], expected: str):
    assert folder_name(config, varied) == expected


@settings(max_examples=25, deadline=None)
@given(sweeps())
def test_names_of_folders_are_plain_and_differ(sweep: dict[str, list]):
    architectures = sweep.get("architecture", ["topk"])
    options = [settings_of(build(TrainConfig, {"architecture": kind})) for kind in architectures]
    assume(all(any(name in has for has in options) for name in sweep))
    found = expand(TrainConfig(), sweep)
    names = [folder_name(one, sweep) for one in found]
    assert len(set(names)) == len(found)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)


def metrics(monosemanticity: float, explained_variance: float = 0.5) -> dict:
    return {"monosemanticity": {"mean_with_zeros": monosemanticity}, "explained_variance": explained_variance}


def test_monosemanticity_decides_only_by_more_than_what_seeds_differ_by():
    assert recommend({"a": metrics(0.617, 0.69), "b": metrics(0.615, 0.86)}) == "b"
    assert recommend({"a": metrics(0.640, 0.69), "b": metrics(0.615, 0.86)}) == "a"
    assert recommend({"a": metrics(0.611, 0.7), "b": metrics(0.615, 0.7)}) == "b"


def test_a_sweep_is_a_table_for_people_with_the_recommended_one_and_the_rule():
    measured = {
        "topk-k8": {**metrics(0.617, 0.6906), "l0": 8.0, "dead_share": 0.001},
        "relu": {**metrics(0.2, math.nan), "l0": 101.4, "dead_share": 0.5},
    }
    header, first, second, recommended = sweep_lines(measured)
    assert first.split() == ["topk-k8", "0.6906", "8.00", "0.1%", "0.6170"]
    assert second.split() == ["relu", "nan", "101.40", "50.0%", "0.2000"]
    assert header.index("monosemanticity") + len("monosemanticity") == len(header) == len(first) == len(second)
    assert recommended == f"recommended: topk-k8 ({RULE})"


def test_the_most_monosemantic_is_recommended_and_explained_variance_decides_between_equals():
    assert recommend({"a": metrics(0.2, 0.9), "b": metrics(0.3, 0.1)}) == "b"
    assert recommend({"a": metrics(0.3, 0.1), "b": metrics(0.3, 0.2), "c": metrics(0.1, 0.9)}) == "b"
    assert recommend({"a": metrics(0.3), "b": metrics(0.3)}) == "a"


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_what_could_not_be_measured_is_never_recommended(order: tuple[str, str]):
    of = {"a": metrics(math.nan, 0.9), "b": metrics(-0.1, 0.1)}
    assert recommend({name: of[name] for name in order}) == "b"
    of = {"a": metrics(0.1, math.nan), "b": metrics(0.1, -3.0)}
    assert recommend({name: of[name] for name in order}) == "b"


def test_measures_without_a_score_are_an_error():
    with pytest.raises(KeyError, match="monosemanticity"):
        recommend({"a": {"explained_variance": 0.5}, "b": {"explained_variance": 0.6}})


def test_trainings_that_differ_in_their_seed_alone_are_compared():
    configs = expand(TrainConfig(), parse_sweep("architecture=topk,relu k=4,8 seed=0,1"))
    assert [folder_name(config, ["k", "seed"]) for config in configs][:2] == ["topk-k4-seed0", "topk-k4-seed1"]
    assert seeds_of_settings(configs) == [[0, 1], [2, 3], [4, 5]]
    assert seeds_of_settings(configs[:1]) == []
