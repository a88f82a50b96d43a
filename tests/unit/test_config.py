from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.tiny import tiny_config
from vcfbert.config import (
    PROFILES,
    Config,
    ModelConfig,
    TrainConfig,
    build,
    load,
    profile,
    profile_text,
    with_overrides,
)
from vcfbert.errors import InputError

PROJECT = Path(__file__).parents[2]


def values() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(profile_text("cpu"))
    return parsed


def test_params_file_of_the_project_loads() -> None:
    config = load(PROJECT / "params.yaml")
    assert isinstance(config, Config)
    assert build(Config, config.as_dict()) == config


def test_original_profile_has_the_original_values() -> None:
    config = profile("original")
    model, train = config.model, config.train
    assert (model.dims, model.layers, model.heads) == (192, 10, 6)
    assert (train.batch_size, train.accumulate, train.lr) == (32, 2, 7.5e-5)
    assert (train.warmup_steps, train.epochs, config.encode.window) == (15_000, 20, 1030)
    assert (config.masks.start, config.masks.end, config.masks.step_epochs) == (0.30, 0.80, 2)


@pytest.mark.parametrize(("dims", "layers", "heads"), [(128, 8, 4), (192, 10, 6), (256, 12, 8)])
def test_model_config_of_original_sizes_is_valid(dims: int, layers: int, heads: int) -> None:
    assert ModelConfig(dims=dims, layers=layers, heads=heads).dims == dims


@pytest.mark.parametrize("name", PROFILES)
def test_profile_has_every_section(name: str) -> None:
    assert set(yaml.safe_load(profile_text(name))) == {f.name for f in dataclasses.fields(Config)}
    assert profile(name).train.epochs >= 1


def test_unknown_profile_is_refused() -> None:
    with pytest.raises(InputError, match="cpu, gpu, original"):
        profile("tpu")


def test_defaults_that_break_a_rule_with_a_given_value_are_refused() -> None:
    with pytest.raises(InputError, match=r"model\.heads is 4: must divide model\.dims \(66\)"):
        build(ModelConfig, {"dims": 66}, "model.")


def test_section_built_in_python_is_checked() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 8"):
        ModelConfig(dims=4)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("prepare", "holdout", 0.0),
        ("prepare", "holdout", 1.0),
        ("prepare", "seed", -1),
        ("encode", "window", 7),
        ("encode", "flank", 33),  # of a window of 128
        ("encode", "span_cm", -0.1),
        ("model", "dims", 4),
        ("model", "heads", 3),  # does not divide 32
        ("model", "heads", 0),
        ("model", "layers", 0),
        ("model", "dropout", 1.0),
        ("retrieval", "k", {"v17": 2}),
        ("retrieval", "k", {"v17": 2, "v18": 0}),
        ("retrieval", "refresh_every", -1),
        ("retrieval", "backend", "annoy"),
        ("masks", "start", 0.9),  # above the end
        ("masks", "end", 1.0),
        ("masks", "rare", 1.0),
        ("masks", "array_share", 1.1),
        ("masks", "array_density", [0.2, 0.1]),
        ("masks", "array_density", [0.1]),
        ("train", "epochs", 0),
        ("train", "batch_size", 0),
        ("train", "accumulate", 0),
        ("train", "lr", 0),
        ("train", "lr", -1e-3),
        ("train", "lr", float("nan")),
        ("train", "patience", 0),
        ("train", "loss", "hinge"),
        ("train", "precision", "16"),
        ("train", "seed", -5),
        ("train", "seed", 2**31),
        ("train", "epochs", 10**30),
        ("evaluate", "mask_rate", 1.5),
        ("evaluate", "batch_size", 0),
    ],
)
def test_value_out_of_range_is_refused_by_name(section: str, name: str, value: object) -> None:
    given = values()
    given[section][name] = value
    with pytest.raises(InputError) as caught:
        build(Config, given)
    assert (caught.value.code, caught.value.exit_code) == ("params_invalid", 2)
    assert section in str(caught.value)
    assert name in str(caught.value)
    assert "hint:" in str(caught.value)


@pytest.mark.parametrize(
    ("section", "name", "value", "what"),
    [
        ("train", "epochs", "many", "must be a whole number"),
        ("train", "epochs", 2.5, "must be a whole number"),
        ("train", "epochs", True, "must be a whole number"),
        ("train", "lr", "fast", "must be a number"),
        ("train", "lr", None, "must be a number"),
        ("train", "compile", "yes", "must be true or false"),
        ("prepare", "panel", 7, "must be a path or a list of paths"),
        ("retrieval", "k", 3, "must be a mapping"),
    ],
)
def test_value_of_another_type_is_refused(section: str, name: str, value: object, what: str) -> None:
    given = values()
    given[section][name] = value
    with pytest.raises(InputError, match=rf"{section}\.{name} is .*{what}"):
        build(Config, given)


def test_unknown_parameter_is_told_the_known_ones() -> None:
    given = values()
    given["train"]["learning_rate"] = 1e-3
    with pytest.raises(InputError, match=r"train\.learning_rate .*no such parameter; known: epochs, batch_size"):
        build(Config, given)


def test_missing_section_is_named() -> None:
    given = values()
    del given["masks"]
    with pytest.raises(InputError, match="masks is missing"):
        build(Config, given)


def test_every_problem_is_listed() -> None:
    given = values()
    given["train"] |= {"epochs": 0, "learning_rate": 1e-3}
    given["model"]["heads"] = 3
    with pytest.raises(InputError) as caught:
        build(Config, given)
    problems = caught.value.what.splitlines()
    assert problems[0] == "3 problems"
    assert [line.split(":")[0].strip() for line in problems[1:]] == [
        "model.heads is 3",
        "train.epochs is 0",
        "train.learning_rate is 0.001",
    ]


def test_numbers_that_yaml_reads_as_text_are_accepted() -> None:
    assert build(TrainConfig, yaml.safe_load("lr: 1e-3")).lr == 1e-3
    assert build(TrainConfig, {"lr": 1}).lr == 1.0


@pytest.mark.parametrize("text", ["", "a: [", "- 1\n- 2", "5"])
def test_file_without_sections_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load(path)
    assert caught.value.code == "params_invalid"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"[" * 5000, "nested too deeply"),
        (b"a: " + b"9" * 5000, "cannot be read"),
        (b"a: 2001-99-99", "cannot be read"),
        (b"a: !!int ''", "cannot be read"),
        (b'a: "\\UFFFFFFFF"', "cannot be read"),
        ("a: é".encode("latin1"), "can't decode byte"),
        (b"a: 1\n---\nb: 2", "at line 2"),
        (b"train: {lr: 1}\ntrain: {epochs: 2}", "train is given twice at line 2"),
        (b"train: {lr: 1, lr: 2}", "lr is given twice at line 1"),
    ],
    ids=["nested", "digits", "date", "int", "character", "latin1", "documents", "section", "parameter"],
)
def test_file_that_yaml_cannot_read_is_refused(tmp_path: Path, text: bytes, what: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(text)
    with pytest.raises(InputError, match=what) as caught:
        load(path)
    assert (caught.value.code, caught.value.where) == ("params_invalid", str(path))
    assert caught.value.hint is not None


@pytest.mark.parametrize(
    "value",
    ["x" * 5000, 2**20000, [[["x" * 5000] * 50] * 50] * 50, {"a": {"b": "x" * 5000}}],
    ids=["text", "number", "lists", "mapping"],
)
def test_value_of_any_size_is_shown_within_a_line(value: object) -> None:
    given = values()
    given["train"]["epochs"] = value
    with pytest.raises(InputError) as caught:
        build(Config, given)
    assert caught.value.what.startswith("train.epochs is ")
    assert len(caught.value.what) < 700


@pytest.mark.parametrize(
    "assignment",
    ["train.epochs=2001-99-99", "train.epochs=" + "[" * 5000, "a" * 5000],
    ids=["date", "nested", "no value"],
)
def test_assignment_that_yaml_cannot_read_is_refused(assignment: str) -> None:
    with pytest.raises(InputError, match="--set is") as caught:
        with_overrides("cpu", [assignment])
    assert len(str(caught.value)) < 300


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read") as caught:
        load(tmp_path / "params.yaml")
    assert caught.value.code == "params_missing"


@pytest.mark.parametrize("section", ["encode", "model", "retrieval", "masks", "train"])
def test_training_digest_changes_with_what_shapes_training(section: str) -> None:
    config = tiny_config()
    change = {
        "encode": {"span_cm": 0.1},
        "model": {"layers": 2},
        "retrieval": {"refresh_every": 3},
        "masks": {"rare": 0.6},
        "train": {"lr": 1e-3},
    }[section]
    digest = config.training_digest("v18", "data")
    assert tiny_config({section: change}).training_digest("v18", "data") != digest
    assert config.training_digest("v17", "data") != digest
    assert config.training_digest("v18", "other data") != digest
    assert tiny_config({"publish": {"minimum": 0.1}}).training_digest("v18", "data") == digest
    assert tiny_config({"evaluate": {"mask_rate": 0.6}}).training_digest("v18", "data") != digest


def test_configuration_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_config().train.lr = 1.0  # type: ignore[misc]
