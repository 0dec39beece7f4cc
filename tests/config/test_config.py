"""The table of fields agrees with the paper's config, and every wrong value of a field ends in a sentence."""

import inspect
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from alexnet_jax.config import fields
from alexnet_jax.config.config import (
    check_config,
    config_to_json,
    differences,
    flatten,
    load_saved,
    recipe_of,
)
from alexnet_jax.config.fields import (
    FIELDS,
    FIELDS_FIXED_WHILE_TRAINING,
    NETWORK_FIELDS,
    START_FIELDS,
    TRAJECTORY_FIELDS,
    Field,
    Role,
)
from alexnet_jax.config.memory import check_memory, evaluation_bytes
from alexnet_jax.messages import UserError
from alexnet_jax.network import architecture
from configs import alexnet, alexnet_2012, cifar10

STRANGE = (
    "",
    "text",
    None,
    True,
    -1,
    3,
    2**40,
    -0.5,
    float("nan"),
    (),
    ("a",),
    (None,),
    ((1, 2),),
    (float("inf"),),
    b"",
)


def test_the_paper_s_config_has_the_table_s_fields_in_its_order_and_types() -> None:
    values = flatten(alexnet.get_config())
    assert {name: type(value) for name, value in values.items()} == {field.name: field.type for field in FIELDS}
    # A ConfigDict sorts its names; their order is that of the file's lines.
    lines = re.findall(r"^    config\.([\w.]+) = ", inspect.getsource(alexnet.get_config), re.MULTILINE)
    assert [name for name in lines if name in values] == [field.name for field in FIELDS]


def with_field(config: ConfigDict, name: str, value: Any) -> ConfigDict:
    """The config with a value of any type, as a user's config file may set it."""
    group, _, last = name.rpartition(".")
    with config.ignore_type(), config.unlocked():
        (config[group] if group else config)[last] = value
    return config


@pytest.mark.parametrize("get_config", [alexnet.get_config, alexnet_2012.get_config, cifar10.get_config])
def test_no_value_of_a_field_ends_in_anything_but_a_sentence(get_config: Any) -> None:
    refused = 0
    for field in FIELDS:
        for value in STRANGE:
            config = with_field(get_config(), field.name, value)
            try:
                check_config(config)
            except UserError as error:
                refused += 1
                assert "config." in str(error)
            else:
                known = (field.type, int) if field.type is float else (field.type,)
                taken = flatten(config)[field.name]  # ConfigDict makes a bool a number in a field of numbers
                assert type(taken) in known, f"{field.name} took {taken!r}"
    assert refused > 0.7 * len(FIELDS) * len(STRANGE)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("schedule.rates", (1, 2), r"config\.schedule\.rates is \(1, 2\) and must be lines \(epoch, 'LAYER/kernel'"),
        ("schedule.rates", ((0, 0.1, "*"),), r"must be lines \(epoch"),
        ("schedule.rates", "(1, 2)", "must be of type tuple; set --config.schedule.rates"),
        ("schedule.rates", ((0, "*", float("nan")),), "must be finite"),
        ("schedule.boundaries", (True,), "must be epochs, as numbers"),
        ("schedule.boundaries", (9.0, 3.0), "must be epochs in rising order"),
        ("model.kernels", None, "is None and must be of type tuple"),
        ("model.kernels", (8, 16), "must be five numbers, for conv1 to conv5"),
        ("model.padding", (1, 1, 1, "1"), "must be whole numbers"),
        ("model.padding", (1, 1, 1, -1), "must be four numbers, for conv2 to conv5"),
        ("model.first_padding", (3,), "must be two numbers, the pixels before and after the picture"),
        ("model.first_padding", (0, -3), "must be two numbers, the pixels before and after the picture"),
        ("model.start", "kaiming", "must be constants or fan_in"),
        ("model.dropout_place", "both", "must be outputs or inputs"),
        ("model.dropout_scaling", "never", "must be test or training"),
        ("data.square", "stretch", "must be crop, crop_down or squeeze"),
        ("data.mean_rgb", (104, 117), "must be three numbers, for red, green and blue"),
        ("data.stddev_rgb", (1.0, 0.0, 1.0), "must be three numbers above 0, for red, green and blue"),
        ("model.classes", 1, r"must be 0 \(the dataset's number\) or at least 2"),
        ("model.classes", True, "is True and must be of type int"),
        ("model.dropout", 1.0, "must be a probability from 0 to below 1"),
        ("model.removed", "conv1", "must be empty or one of conv2, conv3, conv4, conv5, fc6, fc7"),
        ("data.jpeg_quality", 101, "must be from 1 to 100"),
        ("data.max_rejected", 1.5, "must be a share from 0 to 1"),
        ("data.validation_fraction", 1.0, "must be between 0 and 1"),
        ("optimizer.learning_rate", 0.0, "must be above 0"),
        ("schedule.drops", -1, "must be from 0 to 1000"),
        ("schedule.drops", 2**31 - 1, "must be from 0 to 1000"),
        ("schedule.rates", ((1, 2),), "must be lines"),
        ("schedule.rates", ((1e10, "*", 0.1),), "with epochs of 1000000 at most"),
        ("schedule.boundaries", (1e10,), "must be epochs, as numbers, 1000000 at most"),
        ("train.epochs", 1e18, "must be from 0 to 1000000"),
        ("augment.lighting_until", 1e18, "must be from 0 to 1000000"),
        ("model.lrn_n", 4, "must be an odd number up to 255"),
        ("model.lrn_n", 2**31 - 1, "must be an odd number up to 255"),
        ("model.pool_window", 12, "must be from 1 to 11"),
        ("model.pool_stride", 7, "must be at most config.model.pool_window, 3"),
        ("schedule.patience", 0, "must be at least 1"),
        ("schedule.kind", "cosine", "must be constant, steps, plateau or listed"),
        ("mesh.model", 3, r"must be 0 \(automatic\), 1 or 2: a network has at most two towers"),
        ("train.epochs", 0.0, "must be above 0 where train.steps is 0"),
        ("data.crop", 257, "must be at most config.data.resize, 256"),
    ],
)
def test_a_wrong_value_is_refused_with_what_it_must_be(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_config(with_field(alexnet.get_config(), name, value))


def test_both_ends_of_a_range_are_as_the_sentence_says() -> None:
    for name, value in [
        ("model.dropout", 0.0),
        ("data.jpeg_quality", 100),
        ("data.max_rejected", 1.0),
        ("schedule.drops", 0),
        ("schedule.patience", 1),
        ("data.crop", 256),
        ("optimizer.momentum", 0.0),
        ("train.epochs", 1),
    ]:
        check_config(with_field(alexnet.get_config(), name, value))


@pytest.mark.parametrize("value", [3, None, "text", ConfigDict(), ConfigDict({"crop": 3})])
def test_a_group_that_is_none_is_a_sentence(value: Any) -> None:
    with pytest.raises(UserError, match=r"config\.data[.\w]* is (missing|not a known field)"):
        check_config(with_field(alexnet.get_config(), "data", value))


def test_decayed_names_layers_that_exist() -> None:
    check_config(cifar10.get_config("lrn"))
    with pytest.raises(
        UserError, match=r"decayed names 'fc9', but no layer has that name; the layers are conv1, .*fc5"
    ):
        check_config(with_field(cifar10.get_config("lrn"), "optimizer.decayed", "local*, fc9"))
    with pytest.raises(UserError, match=r"model\.kernels is \(8, 8\) and must be four numbers"):
        check_config(with_field(cifar10.get_config("no_lrn"), "model.kernels", (8, 8)))


def test_four_layers_have_one_tower_and_three_widths() -> None:
    with pytest.raises(UserError, match=r"model\.towers is 2 and must be 1 for the network of four layers"):
        check_config(with_field(cifar10.get_config(), "model.towers", 2))
    with pytest.raises(UserError, match=r"model\.kernels is \(8, 8\) and must be three numbers"):
        check_config(with_field(cifar10.get_config(), "model.kernels", (8, 8)))
    with pytest.raises(UserError, match=r"mesh\.model is 2 and must be at most 1, the towers of this network"):
        check_config(with_field(cifar10.get_config(), "mesh.model", 2))


def test_a_run_from_before_a_field_has_the_value_that_the_program_had_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = alexnet.get_config()
    (tmp_path / "config.json").write_text(config_to_json(config))
    later = Field("augment.tints", tuple, role=Role.LEARNING, before=(1, 2))
    monkeypatch.setattr(fields, "FIELDS", (*FIELDS, later))
    run = load_saved(tmp_path)
    assert run["augment"].pop("tints") == [1, 2]
    assert run == json.loads(config_to_json(config))
    with config.unlocked():
        config.augment.tints = (3, 4)
    check_config(config)
    assert differences(config, load_saved(tmp_path), [later.name], ("here", "there")) == [
        "augment.tints is [3, 4] here and [1, 2] there"
    ]
    # A field that 1.0.0 had is missing only from a damaged file.
    monkeypatch.setattr(fields, "FIELDS", (*FIELDS, replace(later, before=None)))
    with pytest.raises(UserError, match=r"is not a complete run \(config.json: config.augment.tints is missing"):
        load_saved(tmp_path)


def test_only_the_compared_fields_count_as_differences() -> None:
    config = alexnet.get_config()
    saved = json.loads(config_to_json(config))
    config.data.accept_damaged, config.data.colour_profiles = True, "srgb"
    config.data.data_dir, config.data.max_missing, config.train.log_every = "/elsewhere", 0.5, 7
    del saved["data"]["resize"]
    assert differences(config, saved, FIELDS_FIXED_WHILE_TRAINING, ("here", "there")) == [
        "data.accept_damaged is True here and False there",
        "data.colour_profiles is 'srgb' here and 'ignore' there",
        "data.resize is 256 here and 'absent' there",
    ]


def test_each_field_s_role_decides_what_a_run_keeps() -> None:
    model = {field.name for field in FIELDS if field.name.startswith("model.")}
    pictures = {"data.resize", "data.square", "data.crop", "data.mean_rgb", "data.stddev_rgb"}
    groups = ("data", "augment", "optimizer", "schedule")
    learning = {field.name for field in FIELDS if field.name.startswith(groups)} | {"train.batch_size", "train.seed"}
    learning |= {"train.least_steps", "train.most_steps"}
    learning -= {"data.data_dir", "data.manual_dir", "data.prepared_dir"}
    learning -= {"data.max_missing", "data.max_rejected", "data.shared"}
    start = {"train.init_from", "train.init_except", "train.init_checkpoint"}
    measuring = {"evaluate.split", "evaluate.views", "evaluate.least_steps"}
    assert set(NETWORK_FIELDS) == model | pictures
    assert set(FIELDS_FIXED_WHILE_TRAINING) == model | learning | measuring
    assert set(TRAJECTORY_FIELDS) == model | learning | start | {"train.epochs"}
    assert set(START_FIELDS) == start


def test_steps_beyond_32_bits_are_refused_and_a_drop_beyond_them_never_comes() -> None:
    config = alexnet.get_config()
    config.train.epochs = 1e6
    with pytest.raises(UserError, match=r"1e\+06 epochs of 10000 steps are more than 2147483647 steps; set --config"):
        recipe_of(config, 10, steps_per_epoch=10_000)
    config.train.steps, config.schedule.boundaries = 5, (2.0, 1e6)
    assert recipe_of(config, 10, steps_per_epoch=10_000).schedule.boundaries == (20_000, 2**31 - 1)


@pytest.mark.parametrize(
    ("name", "value", "group"),
    [
        ("model.classes", 2**31 - 1, "(train|evaluate)"),
        ("model.units", (2**20, 2**20), "(train|evaluate)"),
        ("evaluate.batch_size", 100_000_000, "evaluate"),
        ("train.batch_size", 100_000_000, "train"),
    ],
)
def test_a_step_that_does_not_fit_the_memory_is_refused_with_both_numbers(name: str, value: Any, group: str) -> None:
    config = with_field(alexnet.get_config(), name, value)
    needed = r"batch_size \d+ a step needs about [\d,.]+ GB of memory, but this machine has only [\d,.]+ GB"
    words = rf"{needed}; lower --config\.{group}\.batch_size"
    with pytest.raises(UserError, match=words):
        check_memory(config, config.model.classes or 10, training=True)
    check_memory(alexnet.get_config(), 1000, training=True)


def test_evaluation_needs_its_parameters_and_its_largest_arrays() -> None:
    # conv1: 224x224x3 pixels, 55x55 patches of 11x11x3, 55x55x96 outputs, 4 bytes each.
    a_picture = 4 * (224 * 224 * 3 + 55 * 55 * 11 * 11 * 3 + 55 * 55 * 96)
    assert evaluation_bytes(architecture.alexnet(), 10) == 4 * 60_965_224 + 10 * a_picture
