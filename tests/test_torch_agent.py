"""PyTorch modules as agents: against the same numbers in JAX, in batches, with clear errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muscope.agent.base import Agent, Prediction
from muscope.agent.check import check_agents
from muscope.config import SearchConfig
from muscope.envs.base import Spec
from muscope.errors import ConfigError, HostError
from muscope.foreign import TorchAgent, TorchModules
from muscope.host_call import host_errors
from muscope.runtime import agents_mesh, map_agents
from muscope.search import learned_parts, search

torch = pytest.importorskip("torch")

SPEC = Spec("world", num_actions=3, observation_shape=(2, 2), time_limit=10)
WIDTH = 5


class Network(torch.nn.Module):
    """A small agent that counts its calls and works in place where PyTorch lets it."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.h = torch.nn.Linear(4, WIDTH)
        self.g = torch.nn.Linear(WIDTH + 3, WIDTH + 1)
        self.f = torch.nn.Linear(WIDTH, 4)
        self.drop = torch.nn.Dropout(0.5)
        self.batches = []

    def represent(self, observation):
        return self.h(self.drop(observation.reshape(len(observation), -1).add_(0.0)))

    def dynamics(self, z, action):
        self.batches.append(len(z))
        out = self.g(torch.cat([z, torch.nn.functional.one_hot(action, 3)], 1))
        z.mul_(0.0)  # The caller's own arrays must not notice.
        return torch.tanh(out[:, 1:]), out[:, 0]

    def predict(self, z):
        out = self.f(z)
        return out[:, 1:], out[:, :1]

    @property
    def modules_(self):
        return TorchModules(self.represent, self.dynamics, self.predict)


class InJax:
    """The same network in NumPy's weights and JAX's operations."""

    def __init__(self, network):
        self.w = {k: jnp.asarray(v.numpy()) for k, v in network.state_dict().items()}

    def _layer(self, name, x):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def represent(self, observation):
        return self._layer("h", observation.reshape(-1))

    def step(self, z, action):
        out = self._layer("g", jnp.concatenate([z, jax.nn.one_hot(action, 3)]))
        return jnp.tanh(out[1:]), out[0]

    def predict(self, z):
        out = self._layer("f", z)
        return Prediction(out[1:], out[0])


def unrolled(agent, observation, actions):
    z = agent.represent(observation)
    out = [agent.predict(z)]
    for action in actions:
        z, reward = agent.step(z, action)
        out += [agent.predict(z), reward]
    return out


@pytest.fixture(scope="module")
def data():
    k1, k2 = jax.random.split(jax.random.key(0))
    return jax.random.normal(k1, (4, 6, 2, 2)), jax.random.randint(k2, (4, 6, 2), 0, 3)


def assert_close(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


def test_one_agent_equals_the_same_network_in_jax(data):
    network = Network(0)
    agent = TorchAgent(network.modules_, SPEC)
    assert isinstance(agent, Agent)
    assert len(jax.tree.leaves(agent)) == 1
    observations, actions = data
    network.batches.clear()

    def over_both_axes(agent):
        return jax.vmap(jax.vmap(lambda x, a: unrolled(agent, x, a)))(observations, actions)

    ours = jax.jit(over_both_axes)(agent)
    assert_close(ours, over_both_axes(InJax(network)))
    assert network.batches == [24, 24]  # One call per step, for all lanes of both axes.
    alone = jax.jit(lambda x, a: unrolled(agent, x, a))(observations[0, 0], actions[0, 0])
    assert_close(alone, jax.tree.map(lambda x: x[0, 0], ours))


def test_a_population_over_two_devices(data):
    """Four agents on two devices: each lane is its own agent's, whatever the nesting."""
    networks = [Network(seed) for seed in range(4)]
    population = TorchAgent([n.modules_ for n in networks], SPEC)
    run = map_agents(
        lambda agent, x, a: jax.vmap(lambda x, a: unrolled(agent, x, a))(x, a), agents_mesh(4), 3
    )
    ours = run(population, *data)
    for i, network in enumerate(networks):
        theirs = jax.vmap(lambda x, a, n=network: unrolled(InJax(n), x, a))(data[0][i], data[1][i])
        assert_close(jax.tree.map(lambda x, i=i: x[i], ours), theirs)
    # Agents the other way round and mixed within one batch.
    index = jnp.array([3, 0, 0, 2, 1, 3])
    mixed = jax.tree.map(lambda _: index, population)
    ours = jax.vmap(lambda agent, x: agent.predict(agent.represent(x)).value)(mixed, data[0][0])
    for i, number in enumerate(index):
        truth = InJax(networks[int(number)])
        np.testing.assert_allclose(
            ours[i], truth.predict(truth.represent(data[0][0, i])).value, rtol=1e-5
        )


def test_a_search_takes_one_call_per_simulation(data):
    network = Network(1)
    agent, truth = TorchAgent(network.modules_, SPEC), InJax(network)
    network.batches.clear()

    def visits(agent):
        roots = jax.vmap(agent.represent)(data[0][0])
        config = SearchConfig(simulations=12)
        return search(learned_parts(agent), roots, jax.random.key(3), config, 0.9).visits

    np.testing.assert_array_equal(jax.jit(visits)(agent), jax.jit(lambda: visits(truth))())
    assert network.batches == [6] * 12


def test_latent_states_may_be_several_arrays():
    def represent(x):
        return {"count": torch.zeros(len(x), dtype=torch.int64), "x": (x, x[:, 0] > 0)}

    def dynamics(z, action):
        assert z["count"].dtype == torch.int64
        assert z["x"][1].dtype == torch.bool
        following = {"count": z["count"] + action, "x": (z["x"][0] + 1, ~z["x"][1])}
        return following, z["count"].float()

    def predict(z):
        return torch.zeros(len(z["count"]), 3), z["x"][0].sum((1, 2))

    agent = TorchAgent(TorchModules(represent, dynamics, predict), SPEC)
    z = agent.represent(jnp.ones((2, 2)))
    for action in (2, 1):
        z, reward = agent.step(z, jnp.int32(action))
    assert (z.z["count"], reward, agent.predict(z).value) == (3, 2.0, 12.0)


def with_(network, **changes):
    return network.modules_._replace(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predict": lambda z: (z, z[:, 0])}, r"policy logits must have the shape \[3, 3\]"),
        ({"predict": lambda z: (z[:, :3], z)}, r"value must have the shape \[3\] or \[3, 1\]"),
        ({"predict": lambda z: z}, "must give two things, policy logits and value"),
        ({"dynamics": lambda z, a: (z, z)}, "reward must have the shape"),
        ({"dynamics": lambda z, a: (z[:, :2], a)}, r"dynamics gives latent states \[2\].* \[5\]"),
        ({"dynamics": lambda z, a: (None, a)}, "dynamics must give latent states|must be alike"),
        ({"represent": lambda x: x.sum()}, r"represent must give latent states \[3, ...\]"),
        ({"represent": lambda x: 1 / 0}, r"represent fails .*\[3, 2, 2\].*division by zero"),
    ],
)
def test_wrong_outputs_are_told_at_once(changes, message):
    with pytest.raises(ConfigError, match=message):
        TorchAgent(with_(Network(0), **changes), SPEC)


def test_agents_of_a_population_must_be_alike():
    wide = with_(
        Network(1),
        represent=lambda x: torch.zeros(len(x), 7),
        dynamics=lambda z, a: (z, a.float()),
        predict=lambda z: (z[:, :3], z[:, 0]),
    )
    with pytest.raises(ConfigError, match=r"agent 1's latent .* \[7\], not \[5\]"):
        TorchAgent([Network(0).modules_, wide], SPEC)
    with pytest.raises(ConfigError, match="at least one"):
        TorchAgent([], SPEC)


def test_a_failure_in_a_module_is_told_as_it_is():
    def dynamics(z, action):
        if len(z) > 3:
            raise ValueError("no room for so many")
        return z, action.float()

    agent = TorchAgent(with_(Network(0), dynamics=dynamics), SPEC)
    z = jax.vmap(agent.represent)(jnp.zeros((4, 2, 2)))
    with (
        pytest.raises(
            HostError, match="dynamics or predict failed on a batch of 4: ValueError: no"
        ),
        host_errors(),
    ):
        jax.block_until_ready(jax.vmap(agent.step)(z, jnp.zeros(4, jnp.int32)))


def test_large_batches_do_not_hang():
    """Inputs beyond 100 KB, from two devices at once."""
    network = Network(0)
    agents = TorchAgent([network.modules_] * 2, SPEC)
    observations = jax.random.normal(jax.random.key(0), (2, 30_000, 2, 2))
    run = map_agents(
        lambda agent, x: jax.vmap(lambda x: agent.predict(agent.represent(x)).value)(x),
        agents_mesh(2),
        2,
    )
    truth = InJax(network)
    theirs = jax.vmap(lambda x: truth.predict(truth.represent(x)).value)(observations[1])
    np.testing.assert_allclose(run(agents, observations)[1], theirs, rtol=1e-4, atol=1e-5)


def test_values_and_rewards_may_have_an_axis_of_one():
    """[B, 1] is [B]: every lane keeps its own number, whatever is mapped around it."""

    def flat(z):
        return z[:, :3], z.sum(1)

    wide = TorchModules(
        lambda x: x.reshape(len(x), -1),
        lambda z, a: (z + 1, (z.sum(1) * a)[:, None]),
        lambda z: (z[:, :3], flat(z)[1][:, None]),
    )
    narrow = wide._replace(dynamics=lambda z, a: (z + 1, z.sum(1) * a), predict=flat)
    observations = jnp.arange(48.0).reshape(2, 6, 2, 2)

    def outputs(agent):
        def of_one(x, action):
            return unrolled(agent, x, [action, action])

        return jax.vmap(jax.vmap(of_one))(observations, jnp.arange(12).reshape(2, 6) % 3)

    ours, theirs = (jax.jit(outputs)(TorchAgent(agent, SPEC)) for agent in (wide, narrow))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    np.testing.assert_array_equal(ours[0].value, observations.sum((2, 3)))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"predict": lambda z: (z[:, :3], z[:, 0] / 0 * 0)}, "predict's value is not finite"),
        ({"predict": lambda z: (z[:, :3] / 0 * 0, z[:, 0])}, "predict's policy is not finite"),
        ({"represent": lambda x: x.reshape(len(x), -1)[:, [0, 0, 0, 0, 0]] / 0}, "represent's lat"),
        ({"dynamics": lambda z, a: (z / 0, z[:, 0])}, "step's latent state is not finite"),
        ({"dynamics": lambda z, a: (z, z[:, 0] / 0)}, "step's reward is not finite"),
    ],
)
def test_the_function_that_is_not_finite_is_named(changes, what):
    class World:
        spec = SPEC

        def reset(self, key):
            return jax.random.normal(key, (2, 2))

        def step(self, state, action):
            raise AssertionError

        def observe(self, state):
            return state

    agents = TorchAgent([with_(Network(0), **changes)], SPEC)
    with pytest.raises(ConfigError, match=what), host_errors():
        check_agents(agents, World())
