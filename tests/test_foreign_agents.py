"""Other packages' agents against those packages' own models.

``data/foreign_networks.npz`` was made once by running the packages' own PyTorch modules in float64
(muzero-general 0825bd5; LightZero 9f717c8 and its tags v0.0.5, v0.1.0 and v0.2.0 with DI-engine
d0b21d0; michaelnny/muzero dba15f1), with small sizes, random weights and running statistics that
float16 holds exactly: h of two observations, g along the actions 1, 0, 1, and f everywhere, decoded
by the packages' own functions.  Per case it holds names and shapes (``about``), the weights one
after the other (``numbers``), rewards, values, policy logits, and latent states (every seventh
component of large ones).  The cases ``shared/...`` are the real checkpoints in ../shared/foreign.
"""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_files

from muscope import envs, foreign
from muscope.agent.base import Agent
from muscope.config import SearchConfig
from muscope.envs.base import Spec
from muscope.errors import CheckpointError, ConfigError
from muscope.evaluation.play import GREEDY, muzero_policy, play, prior_policy
from muscope.foreign import lightzero, michaelnny, muzero_general

NETWORKS = np.load(Path(__file__).parent / "data" / "foreign_networks.npz")
SHARED = Path(__file__).parents[2] / "shared" / "foreign"
KEYS = {"muzero-general": "weights", "lightzero": "model", "michaelnny": "network"}
ACTIONS = (1, 0, 1)

CASES = sorted({name.rsplit("/", 1)[0] for name in NETWORKS.files})
REAL = [case for case in CASES if case.startswith("shared/")]
RANDOM = [case for case in CASES if case not in REAL]

needs_checkpoints = pytest.mark.skipif(not SHARED.is_dir(), reason="no foreign checkpoints here")


def about(case):
    return json.loads(bytes(NETWORKS[f"{case}/about"]))


def state_of(case):
    state, start = {}, 0
    numbers = NETWORKS[f"{case}/numbers"].astype(np.float32)
    for name, shape in about(case)["state"]:
        size = math.prod(shape)
        state[name] = numbers[start : start + size].reshape(shape)
        start += size
    return state


def checkpoint(path, case, bare=False, **changes):
    """A random network's checkpoint; ``changes`` replace arrays, None removes one."""
    state = {**state_of(case), **{name.replace("__", "."): x for name, x in changes.items()}}
    state = {name: x for name, x in state.items() if x is not None}
    key = "" if bare else KEYS[case.split("/")[0]]
    return torch_files.write_state(path / "agent.checkpoint", state, key)


def read(path, case, spec=None, **arguments):
    reader = foreign.reader(case.split("/")[0])
    return reader(path, spec, **{**about(case).get("arguments", {}), **arguments})


def observations(case, batch=2):
    shape = about(case)["observation"]
    numbers = np.arange(batch * math.prod(shape))
    return jnp.asarray(np.sin(0.37 * numbers**1.1).reshape(batch, *shape), jnp.float32)


def unrolled(agent, observation):
    """Rewards [3], values [4], policy logits [4, A] and flat latent states [4, D]."""
    z = agent.represent(observation)
    rewards, predictions, latents = [], [agent.predict(z)], [z]
    for action in ACTIONS:
        z, reward = agent.step(z, jnp.int32(action))
        rewards.append(reward)
        predictions.append(agent.predict(z))
        latents.append(z)
    flat = [x.transpose(2, 0, 1).ravel() if x.ndim == 3 else x for x in latents]
    return {
        "reward": jnp.stack(rewards),
        "value": jnp.stack([p.value for p in predictions]),
        "policy": jnp.stack([p.policy_logits for p in predictions]),
        "latent": jnp.stack(flat),
    }


def assert_as_the_package(agent, case):
    ours = jax.jit(jax.vmap(lambda x: unrolled(agent, x)))(observations(case))
    for name, x in ours.items():
        theirs = NETWORKS[f"{case}/{name}"]
        if name == "latent" and x.shape != theirs.shape:
            x = x[..., ::7]
        np.testing.assert_allclose(x, theirs, rtol=2e-5, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("case", RANDOM)
def test_equals_the_packages_own_model(tmp_path, case):
    agent = read(checkpoint(tmp_path, case), case)
    assert isinstance(agent, Agent)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(agent))
    assert_as_the_package(agent, case)


def test_a_bare_state_dict_is_the_same(tmp_path):
    case = "lightzero/mlp-bn-HEAD"
    assert_as_the_package(read(checkpoint(tmp_path, case, bare=True), case), case)


def test_agents_can_be_stacked(tmp_path):
    """A population is the module with a leading axis on every array."""
    case = "muzero-general/fully-connected"
    agent = read(checkpoint(tmp_path, case), case)
    twice = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), agent)
    x = observations(case)[0]
    ours = jax.jit(jax.vmap(unrolled, in_axes=(0, None)))(twice, x)
    half = jax.jit(unrolled)(jax.tree.map(lambda x: 0.5 * x, agent), x)
    np.testing.assert_allclose(ours["value"][1], half["value"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours["value"][0], NETWORKS[f"{case}/value"][0], rtol=1e-4)


@pytest.mark.parametrize("case", ["lightzero/conv-bn-HEAD", "muzero-general/residual-none"])
def test_images_may_have_their_channels_last(tmp_path, case):
    path = checkpoint(tmp_path, case)
    spec = Spec("images", 3, (3, 4, 2), 10)
    agent = read(path, case, spec, input_factor=2.0)
    values = jax.jit(lambda agent, x: unrolled(agent, x)["value"])
    x = observations(case)[1]
    np.testing.assert_allclose(
        values(agent, x.transpose(1, 2, 0) / 2), NETWORKS[f"{case}/value"][1], rtol=1e-4
    )
    first = read(path, case, spec._replace(observation_shape=(2, 3, 4)))
    np.testing.assert_allclose(unrolled(first, x)["value"], NETWORKS[f"{case}/value"][1], rtol=1e-4)
    with pytest.raises(ConfigError, match="say which by channels_last"):
        read(path, case, spec._replace(observation_shape=(2, 4, 2)))
    with pytest.raises(ConfigError, match=r"images of 2 channels; observations .* \(5, 5, 5\)"):
        read(path, case, spec._replace(observation_shape=(5, 5, 5)))


def test_bins_of_another_range(tmp_path):
    """Outermost bins at +-limit: the mean bin, and so h(value), is limit / 5 of that at +-5."""
    from muscope.agent.support import h_transform

    case = "lightzero/mlp-bn-HEAD"
    path = checkpoint(tmp_path, case)
    x = observations(case)[0]
    value, wide = (unrolled(read(path, case, value_limit=n), x)["value"] for n in (5.0, 15.0))
    np.testing.assert_allclose(value, NETWORKS[f"{case}/value"][0], rtol=1e-5)
    np.testing.assert_allclose(h_transform(wide), 3 * h_transform(value), rtol=1e-5)


SPEC = Spec("my-world", 3, (5,), 10)


@pytest.mark.parametrize(
    ("case", "spec", "arguments", "message"),
    [
        (
            "lightzero/mlp-bn-HEAD",
            SPEC._replace(num_actions=2),
            {},
            "lightzero has 3 actions, my-world has 2",
        ),
        (
            "muzero-general/fully-connected",
            SPEC._replace(observation_shape=(4,)),
            {},
            "observations of 5 numbers, my-world gives 4",
        ),
        ("lightzero/mlp-bn-HEAD", SPEC, {"end": "simnorm"}, "ends in a layer normalisation"),
        ("lightzero/mlp-bn-v0.1.0", SPEC, {"end": "layer-norm"}, "ends without a layer"),
        ("lightzero/mlp-bn-v0.1.0", SPEC, {"group": 7}, "group=7 does not divide .* 16"),
        ("lightzero/conv-bn-HEAD", None, {"end": "plain"}, "convolutional"),
        ("lightzero/mlp-bn-HEAD", None, {"channels_last": True}, "fully connected"),
        ("muzero-general/fully-connected", None, {"input_factor": 0.5}, "fully connected"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, case, spec, arguments, message):
    with pytest.raises(ConfigError, match=message):
        read(checkpoint(tmp_path, case), case, spec, **arguments)


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        (
            "lightzero/mlp-bn-HEAD",
            {"dynamics_network__lstm__weight_ih_l0": np.ones((4, 4))},
            "EfficientZero",
        ),
        ("lightzero/mlp-bn-HEAD", {"chance_encoder__fc__weight": np.ones(3)}, "Stochastic"),
        ("lightzero/mlp-bn-HEAD", {"other__weight": np.ones(3)}, "'other.weight' does not belong"),
        (
            "lightzero/mlp-bn-HEAD",
            {"dynamics_network__fc_reward_head__0__bias": None},
            "there is no 'dynamics_network.fc_reward_head.0.bias'",
        ),
        (
            "muzero-general/fully-connected",
            {"dynamics_reward_network__module__0__weight": np.ones(3)},
            r"'dynamics_reward_network.module.0.weight' has the shape \(3,\)",
        ),
        (
            "michaelnny/mlp",
            {
                "prediction_net__value_net__2__weight": np.ones((1, 6)),
                "prediction_net__value_net__2__bias": np.ones(1),
            },
            "two-player",
        ),
    ],
)
def test_another_network_is_refused_by_name(tmp_path, case, changes, message):
    with pytest.raises(CheckpointError, match=message) as error:
        read(checkpoint(tmp_path, case, **changes), case)
    assert "\n" not in str(error.value)


def test_another_packages_checkpoint_is_refused(tmp_path):
    path = checkpoint(tmp_path, "michaelnny/mlp")
    with pytest.raises(
        CheckpointError, match=r"no weights of lightzero .* it holds: network, step"
    ):
        lightzero.read(path)
    with pytest.raises(ConfigError, match="Did you mean 'lightzero'"):
        foreign.load("lightzer", path)


@needs_checkpoints
@pytest.mark.parametrize("case", REAL)
def test_real_checkpoints_equal_the_packages_own_models(case):
    name = case.removeprefix("shared/")
    package, game = name.rsplit("-", 1)
    loaded = foreign.load(package, SHARED / f"{name}.checkpoint", reward_scale=1.0)
    assert_as_the_package(loaded.agent, case)
    assert loaded.game is not None
    assert loaded.game.package == package
    assert loaded.game.environment.value.replace("-", "") == game


@needs_checkpoints
def test_lunar_landers_rewards_come_in_the_games_units():
    path = SHARED / "muzero-general-lunarlander.checkpoint"
    loaded = foreign.load("muzero-general", path)
    assert loaded.game.plain("options") == {"terrain": "flat", "time_limit": 700}
    x = observations("shared/muzero-general-lunarlander")[0].ravel()
    ours, theirs = unrolled(loaded.agent, x), unrolled(muzero_general.read(path), x)
    np.testing.assert_allclose(ours["value"], 3 * theirs["value"], rtol=1e-6)
    np.testing.assert_allclose(ours["reward"], 3 * theirs["reward"], rtol=1e-6)
    np.testing.assert_array_equal(ours["policy"], theirs["policy"])


@needs_checkpoints
def test_muzero_generals_cart_pole_agent_plays():
    """../shared/foreign/README.md: 500 in 16 of 16 episodes; its prior alone 128 +- 15."""
    environment = envs.make("cart-pole")
    path = SHARED / "muzero-general-cartpole.checkpoint"
    agent, game, _ = foreign.load("muzero-general", path, environment.spec)
    config = SearchConfig(simulations=game.plain("simulations"))
    policy = muzero_policy(environment, agent, config, game.plain("discount"), GREEDY)
    scores = jax.jit(lambda key: play(environment, policy, 4, key).score)(jax.random.key(0))
    np.testing.assert_array_equal(scores, 500.0)
    prior = prior_policy(environment, agent)
    scores = jax.jit(lambda key: play(environment, prior, 256, key).score)(jax.random.key(1))
    error = math.hypot(15.0, float(jnp.std(scores)) / 16)
    assert abs(float(jnp.mean(scores)) - 128.0) < 3 * error


@needs_checkpoints
def test_michaelnnys_cart_pole_agent_plays_with_its_history():
    environment = envs.make("cart-pole")
    path = SHARED / "michaelnny-cartpole.checkpoint"
    with pytest.raises(ConfigError, match="WithHistory"):
        foreign.load("michaelnny", path, environment.spec)
    environment = michaelnny.history(environment)
    agent, game, _ = foreign.load("michaelnny", path, environment.spec)
    config = SearchConfig(simulations=game.plain("simulations"))
    policy = muzero_policy(environment, agent, config, game.plain("discount"), GREEDY)
    scores = jax.jit(lambda key: play(environment, policy, 8, key).score)(jax.random.key(0))
    assert float(jnp.mean(scores)) > 400
