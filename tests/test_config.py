"""Configs: round trips, refusals that name the mend, presets."""

import dataclasses
import json

import pytest

import muscope
from muscope import cli, envs
from muscope.config import (
    Config,
    TrainConfig,
    differences,
    from_dict,
    to_dict,
    trained_alike,
    training_dict,
)
from muscope.errors import ConfigError
from muscope.presets import PRESETS
from muscope.stages import resolved


@pytest.mark.parametrize(
    ("environment", "name"), [(e, name) for e in sorted(PRESETS) for name in PRESETS[e]]
)
def test_presets_survive_json(environment, name):
    config = muscope.preset(environment, name)
    assert config.preset == name
    assert config.environment.name == environment
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize("regime", ["paper", "strong"])
def test_both_regimes_have_the_papers_scale(regime):
    config = muscope.preset("cart-pole", regime)
    train = config.train
    assert (train.agents, train.steps) == (30, 100_000)
    assert train.schedule == (0, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
    assert config.loss.unroll == 10
    lander = muscope.preset("lunar-lander", regime)
    assert (lander.train.agents, lander.train.steps) == (30, 1_000_000)
    assert (lander.loss.unroll, lander.experiments["figure4"]["horizon"]) == (10, 4)
    assert lander.experiments["figure7"]["horizon"] == 128


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trian": {}}, r"unknown setting 'trian'. Did you mean 'train'\?"),
        ({"train": {"batchsize": 3}}, r"'train.batchsize'. Did you mean 'batch_size'\?"),
        ({"train": {"agents": 2.5}}, "train.agents is 2.5; it must be a valid integer"),
        ({"train": {"agents": True}}, "train.agents is True; it must be a valid integer"),
        ({"train": {"temperatures": [1.0]}}, "train.temperatures.1 is .*[Ff]ield required"),
        ({"search": {"normalisation": "no"}}, "search.normalisation is 'no'.*'tree' or 'siblings'"),
        ({"train": 3}, "'train' must be a table"),
        (
            {"environment": {"discount": 1.5}},
            "environment.discount is 1.5.*less than or equal to 1",
        ),
        ({"environment": {"discount": 0}}, "environment.discount is 0; it must be greater than or"),
        ({"search": {"simulations": 0}}, "search.simulations is 0; .*greater than or equal to 1"),
        ({"search": {"c1": -1.0}}, "search.c1 is -1.0"),
        ({"loss": {"policy_weight": -1.0}}, "loss.policy_weight is -1.0"),
        ({"train": {"reanalyse_ratio": 0.3}}, "must be a whole number"),
        ({"train": {"steps": 1001}}, "not a multiple of train.updates_per_round"),
        ({"replay": {"capacity": 40, "start": 10}}, "raise it"),
        ({"environment": {"discount": 0.5}}, "float32 backup loses accuracy"),
        ({"evaluate": {"episodes": 0}}, "evaluate.episodes"),
        ({"train": {"seed": 2**40}}, "train.seed is 1099511627776; it must be less than"),
        ({"train": {"reanalyse_ratio": float("nan")}}, "train.reanalyse_ratio.*finite number"),
        ({"train": {"temperatures": [1.0, float("nan"), 1.0]}}, "train.temperatures.1.*finite"),
        ({"optimiser": {"learning_rate": float("nan")}}, "learning_rate.*must be a finite number"),
        ({"environment": {"discount": 1e-3}, "search": {"simulations": 200}}, "loses accuracy"),
        ({"network": {"width": 0}}, "network.width"),
        ({"network": {"channels": 1}}, "network.channels"),
        ({"optimiser": {"learning_rate": -1.0}}, "learning_rate"),
        ({"optimiser": {"learning_rate": 1e30}}, "learning_rate is 1e.30; .*or equal to 1"),
        (
            {"train": {"rounds_per_call": 10**9}},
            "rounds_per_call is 1000000000; .*or equal to 10000",
        ),
        ({"loss": {"n_step": 10**9}}, "n_step is 1000000000; it must be less"),
        ({"network": {"input_scale": [float("nan")]}}, "input_scale.0 is nan; .*finite"),
        ({"network": {"input_scale": [1.0] * 2_000}}, r"input_scale is \[.*\.\.\.; .*at most 1000"),
        ({"train": {"a\nb": 1}}, r"unknown setting 'train.a\\nb'"),
        ({"train": {"agents": 10**5000}}, "must be plain JSON"),
    ],
)
def test_bad_settings_get_one_clear_error(change, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(change)


def test_unknown_names_get_the_nearest():
    with pytest.raises(ConfigError, match=r"Did you mean 'cart-pole'\?"):
        envs.make("cartpole")
    with pytest.raises(ConfigError, match=r"Did you mean 'quick'\?"):
        muscope.preset("cart-pole", "qick")
    with pytest.raises(ConfigError, match="already registered"):
        envs.register("cart-pole", envs.CartPole)


def test_every_checkpoint_ends_a_call():
    train = TrainConfig(steps=5_000, checkpoints=(0, 500, 1_000), updates_per_round=4)
    assert train.schedule == (0, 500, 1_000, 5_000)
    assert train.call_rounds == 25
    assert all(s % (4 * train.call_rounds) == 0 for s in train.schedule)
    odd = dataclasses.replace(train, steps=5_004)
    assert all(s % (4 * odd.call_rounds) == 0 for s in odd.schedule)


def test_differences_name_the_settings():
    other = dataclasses.replace(Config(), train=dataclasses.replace(TrainConfig(), seed=3))
    assert differences(to_dict(Config()), to_dict(other)) == ["train.seed (0 != 3)"]


def test_the_same_bounds_hold_in_python_and_json():
    with pytest.raises(ConfigError, match=r"train.agents is 0; it must be greater than"):
        TrainConfig(agents=0)
    assert isinstance(from_dict({"optimiser": {"clip": 2}}).optimiser.clip, float)


def test_help_shows_the_bounds(capsys):
    with pytest.raises(SystemExit):
        cli.main(["study", "cart-pole", "--help"])
    text = capsys.readouterr().out
    for words in (
        "--train.agents INT 1..10000",
        "FLOAT 1e-9..1",
        "--figure3.sequences INT 1..1000000",
        "--train.checkpoints [INT 0..1000000000 ...]",
    ):
        assert words in text


def test_breakouts_paper_preset_has_the_papers_scale():
    config = muscope.preset("breakout", "paper")
    assert (config.train.agents, config.train.steps, config.loss.unroll) == (20, 500_000, 5)
    assert config.experiments["figure4"]["horizon"] == 4
    assert config.experiments["figure7"]["horizon"] == 32
    atari = resolved(config).environment.options
    assert (atari["frame_size"], atari["colour"], atari["stack"]) == (96, "rgb", 4)
    assert atari["frame_skip"] == 4
    other = muscope.preset("atari:pong", "paper")
    assert other.environment.name == "atari:pong"
    assert other.train == config.train


def test_a_run_written_before_a_setting_existed_is_still_the_same(tiny):
    written = training_dict(tiny)
    del written["loss"]["unroll_weight"]
    assert trained_alike(written, tiny)
    assert not trained_alike({**written, "network": {"width": 9}}, tiny)
    assert not trained_alike({**written, "gone": 1}, tiny)
