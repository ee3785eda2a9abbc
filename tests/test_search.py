"""The search against mctx, against a naive one, and against exact values."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest
from naive_search import naive_search, naive_tree
from tabular import NEXT, TabularMDP, optimal_q, perfect_agent

from muscope.agent import build
from muscope.config import NetworkConfig, SearchConfig
from muscope.envs.base import Spec
from muscope.errors import ConfigError
from muscope.search import (
    Parts,
    behaviour_logits,
    learned_parts,
    mix_root_noise,
    sample_action,
    search,
    temperature_at,
)

MCTX = SearchConfig(
    normalisation="siblings",
    unvisited="minimum",
    count_node=True,
    range_floor=1e-8,
    tie_noise=0.0,
)


def random_agent(actions, seed=0):
    """A network whose heads are far from zero."""
    spec = Spec("any", actions, (4,), 100)
    agent = build(NetworkConfig(width=32, latent=16), spec, jax.random.key(seed))
    leaves, structure = jax.tree.flatten(agent)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    noisy = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, noisy)


def mctx_search(agent, roots, simulations, discount):
    def recurrent(agent, key, action, z):
        following, reward = jax.vmap(agent.step)(z, action)
        p = jax.vmap(agent.predict)(following)
        return mctx.RecurrentFnOutput(
            reward=reward,
            discount=jnp.full_like(reward, discount),
            prior_logits=p.policy_logits,
            value=p.value,
        ), following

    p = jax.vmap(agent.predict)(roots)
    root = mctx.RootFnOutput(prior_logits=p.policy_logits, value=p.value, embedding=roots)
    out = mctx.muzero_policy(
        agent, jax.random.key(0), root, recurrent, simulations, dirichlet_fraction=0.0
    )
    return out.search_tree.summary()


@pytest.mark.parametrize(
    ("actions", "simulations", "batch"), [(2, 16, 64), (2, 50, 256), (3, 31, 33), (6, 64, 16)]
)
def test_visit_counts_equal_mctx_exactly(actions, simulations, batch):
    agent = random_agent(actions)
    roots = jax.vmap(agent.represent)(jax.random.normal(jax.random.key(9), (batch, 4)))
    config = dataclasses.replace(MCTX, simulations=simulations)
    ours = jax.jit(lambda a, z: search(learned_parts(a), z, jax.random.key(0), config, 0.997))(
        agent, roots
    )
    theirs = jax.jit(lambda a, z: mctx_search(a, z, simulations, 0.997))(agent, roots)
    np.testing.assert_array_equal(ours.visits, theirs.visit_counts)
    np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-4, atol=1e-4)
    seen = np.asarray(ours.visits) > 0
    np.testing.assert_allclose(
        np.asarray(ours.q)[seen], np.asarray(theirs.qvalues)[seen], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("unvisited", ["parent", "minimum"])
@pytest.mark.parametrize("count_node", [False, True])
@pytest.mark.parametrize("range_floor", [0.01, 1.0])
def test_tree_wide_normalisation_equals_a_naive_search(unvisited, count_node, range_floor):
    simulations, discount = 40, 0.97
    config = SearchConfig(
        simulations=simulations,
        unvisited=unvisited,
        count_node=count_node,
        range_floor=range_floor,
        tie_noise=0.0,
    )
    rng = np.random.default_rng(0)
    logits, value = rng.normal(size=(5, 2)), rng.normal(size=5)
    # Irrational rewards, so that no two scores tie.
    reward = rng.normal(size=(5, 2))

    def step(s, a):
        return int(NEXT[s, a]), float(reward[s, a])

    parts = Parts(
        step=lambda s, a: (jnp.asarray(NEXT)[s, a], jnp.asarray(reward, jnp.float32)[s, a]),
        prior=lambda s: jnp.asarray(logits, jnp.float32)[s],
        leaf=lambda s, depth, key: jnp.asarray(value, jnp.float32)[s],
    )
    ours = search(parts, jnp.arange(5), jax.random.key(0), config, discount)
    for s in range(5):
        visits, returns, root = naive_search(
            step, logits.__getitem__, value.__getitem__, s, simulations, discount, config
        )
        np.testing.assert_array_equal(ours.visits[s], visits)
        np.testing.assert_allclose(ours.q[s], returns / np.maximum(visits, 1), rtol=1e-4, atol=1e-5)
        expected = (returns.sum() + root) / (simulations + 1)
        np.testing.assert_allclose(ours.value[s], expected, rtol=1e-4, atol=1e-5)


def test_the_root_value_with_and_without_the_networks_own_estimate():
    agent = perfect_agent(value=[10.0, 0, 0, 0, 0])
    roots = jnp.eye(5)[:1]
    results = {}
    for setting in ("network_and_search", "search"):
        config = SearchConfig(simulations=9, root_value=setting, tie_noise=0.0)
        results[setting] = search(learned_parts(agent), roots, jax.random.key(0), config, 1.0)
    without = results["search"]
    assert float(without.value[0]) == pytest.approx(float((without.visits * without.q).sum()) / 9)
    assert float(results["network_and_search"].value[0]) == pytest.approx(
        (9 * float(without.value[0]) + 10.0) / 10, rel=1e-4
    )


@pytest.mark.parametrize("discount", [0.5, 0.9])
def test_a_perfect_model_converges_to_the_optimal_action_and_value(discount):
    """Uniform prior, value 0 at the leaves: only the model's rewards speak."""
    config = SearchConfig(simulations=400, unvisited="parent")
    q = optimal_q(discount)
    agent = perfect_agent()
    result = search(learned_parts(agent), jnp.eye(5)[:4], jax.random.key(0), config, discount)
    np.testing.assert_array_equal(np.argmax(result.visits, -1), np.argmax(q[:4], -1))
    best = np.take_along_axis(np.asarray(result.q), np.argmax(q[:4], -1)[:, None], 1)[:, 0]
    if discount == 0.5:
        np.testing.assert_allclose(best, q[:4].max(axis=1), atol=0.25)


def test_searching_the_true_environment_equals_searching_its_perfect_model():
    environment, agent = (
        TabularMDP(),
        perfect_agent(logits=[[1, 0], [0, 1], [0, 0], [2, 0], [0, 0]]),
    )
    config = SearchConfig(simulations=60)
    true = Parts(
        step=lambda s, a: environment.step(s, a)[:2],
        prior=lambda s: agent.predict(environment.observe(s)).policy_logits,
        leaf=lambda s, depth, key: agent.predict(environment.observe(s)).value,
    )
    states = jax.vmap(environment.reset)(jax.random.split(jax.random.key(1), 8))
    latents = jax.vmap(environment.observe)(states)
    key = jax.random.key(0)
    in_truth = search(true, states, key, config, 0.9)
    in_model = search(learned_parts(agent), latents, key, config, 0.9)
    np.testing.assert_array_equal(in_truth.visits, in_model.visits)
    np.testing.assert_allclose(in_truth.value, in_model.value, atol=1e-3)


def test_a_lane_does_not_depend_on_its_batch():
    agent = random_agent(2)
    roots = jax.vmap(agent.represent)(jax.random.normal(jax.random.key(9), (32, 4)))
    config = dataclasses.replace(MCTX, simulations=20)
    run = jax.jit(lambda z: search(learned_parts(agent), z, jax.random.key(0), config, 0.99))
    whole, part = run(roots), run(roots[8:12])
    np.testing.assert_array_equal(whole.visits[8:12], part.visits)


def test_equal_scores_are_broken_at_random():
    """All values and priors equal: without noise the first action wins every root."""
    agent = perfect_agent(reward=np.zeros((5, 2)))
    roots = jnp.tile(jnp.eye(5)[:1], (400, 1))
    config = SearchConfig(simulations=1)
    first = search(learned_parts(agent), roots, jax.random.key(0), config, 0.9).visits[:, 1]
    assert 150 < float(first.sum()) < 250
    silent = dataclasses.replace(config, tie_noise=0.0)
    assert (
        float(
            search(learned_parts(agent), roots, jax.random.key(0), silent, 0.9).visits[:, 1].sum()
        )
        == 0
    )


def test_the_first_simulation_follows_the_prior():
    agent = perfect_agent(logits=[[0.0, 2.0]] * 5)
    config = SearchConfig(simulations=1, tie_noise=0.0)
    visits = search(learned_parts(agent), jnp.eye(5), jax.random.key(0), config, 0.9).visits
    np.testing.assert_array_equal(visits, np.tile([0, 1], (5, 1)))


def test_root_noise_mixes_and_reaches_the_root_alone():
    prior, noise = jnp.array([[0.9, 0.1]]), jnp.array([[0.0, 1.0]])
    np.testing.assert_allclose(mix_root_noise(prior, noise, 0.25), [[0.675, 0.325]])
    agent = perfect_agent(logits=[[5.0, 0.0]] * 5)
    config = SearchConfig(simulations=1, tie_noise=0.0)
    result = search(
        learned_parts(agent),
        jnp.eye(5)[:1],
        jax.random.key(0),
        config,
        0.9,
        jnp.array([[0.1, 0.9]]),
    )
    np.testing.assert_array_equal(result.visits, [[0, 1]])


def test_equation_1_and_its_schedule():
    visits = jnp.array([1.0, 3.0, 0.0])
    for temperature, policy in (
        (1.0, [0.25, 0.75, 0.0]),
        (0.5, [0.1, 0.9, 0.0]),
        (0.25, [1 / 82, 81 / 82, 0.0]),
    ):
        given = jax.nn.softmax(behaviour_logits(visits, temperature))
        np.testing.assert_allclose(given, policy, rtol=1e-5)
    assert [float(temperature_at(s, 100)) for s in (0, 49, 50, 74, 75, 100)] == [
        1,
        1,
        0.5,
        0.5,
        0.25,
        0.25,
    ]
    drawn = sample_action(jax.random.key(0), jnp.tile(visits, (4000, 1)), 0.5)
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 4000, [0.1, 0.9, 0], atol=0.02)


@dataclasses.dataclass(frozen=True)
class Grown:
    """A kept tree (in NumPy) and what it grew from."""

    result: Any
    tree: Any
    without: Any
    """The same search's result without its tree."""
    agent: Any
    discount: float
    simulations: int


GROWN = {
    "tree-wide": (3, SearchConfig(simulations=40), None),
    "siblings": (2, dataclasses.replace(MCTX, simulations=33), None),
    "horizon": (2, SearchConfig(simulations=60, max_depth=3), None),
    "budget": (2, SearchConfig(simulations=40, max_depth=3), 23),
}


@pytest.fixture(scope="module", params=GROWN)
def grown(request):
    actions, config, budget = GROWN[request.param]
    agent, discount = random_agent(actions), 0.9
    roots = jax.vmap(agent.represent)(jax.random.normal(jax.random.key(9), (6, 4)))

    @functools.partial(jax.jit, static_argnames="keep_tree")
    def run(roots, keep_tree):
        key, limit = jax.random.key(3), None if budget is None else jnp.asarray(budget)
        return search(
            learned_parts(agent), roots, key, config, discount, budget=limit, keep_tree=keep_tree
        )

    result, without = jax.device_get((run(roots, True), run(roots, False)))
    simulations = config.simulations if budget is None else budget
    return Grown(result, result.tree, without, agent, discount, simulations)


def test_keeping_the_tree_changes_nothing_in_the_search(grown):
    assert grown.without.tree is None
    for name in ("visits", "q", "value"):
        kept, plain = getattr(grown.result, name), getattr(grown.without, name)
        np.testing.assert_array_equal(kept, plain, err_msg=name)


def test_the_kept_trees_root_is_the_result(grown):
    np.testing.assert_array_equal(grown.tree.visits[:, 0], grown.result.visits)
    np.testing.assert_array_equal(grown.tree.q[:, 0], grown.result.q)
    returns = (grown.tree.visits * grown.tree.q)[:, 0].sum(-1)
    count = grown.simulations + 1
    np.testing.assert_allclose(
        grown.result.value, (returns + grown.tree.value[:, 0]) / count, rtol=1e-5
    )


def test_parents_and_children_of_a_kept_tree_agree(grown):
    """Children come from the search's node sets, parents from what each simulation selected."""
    tree = grown.tree
    for lane in range(6):
        edges = {
            (tree.parent[lane, node], tree.action[lane, node]): node
            for node in np.flatnonzero(tree.depth[lane] >= 0)[1:]
        }
        forward = {
            (node, action): child
            for (node, action), child in np.ndenumerate(tree.children[lane])
            if child >= 0
        }
        assert forward == edges
        for (parent, _), node in edges.items():
            assert parent < node
            assert tree.depth[lane, node] == tree.depth[lane, parent] + 1
        # What was tried has a child and the other way round.
        np.testing.assert_array_equal(tree.visits[lane] > 0, tree.children[lane] >= 0)


def test_rows_that_are_no_nodes_are_marked(grown):
    tree, row = grown.tree, np.arange(grown.tree.depth.shape[1])
    ran = np.broadcast_to(row <= grown.simulations, tree.depth.shape)
    assert (tree.ended_at[~ran] == -1).all()
    is_node = tree.depth >= 0
    assert (tree.ended_at == row)[is_node].all()
    came_back = ran & ~is_node
    lane = np.nonzero(came_back)[0]
    assert (tree.depth[lane, tree.ended_at[came_back]] == 3).all()  # The fixture's horizon.
    for name in ("parent", "action", "depth", "children"):
        assert (getattr(tree, name)[~is_node] == -1).all(), name
    for name in ("reward", "visits", "q", "prior", "value"):
        assert (getattr(tree, name)[~is_node] == 0).all(), name


def test_some_kept_trees_have_rows_that_are_no_nodes(grown, request):
    limited = request.node.callspec.params["grown"] in ("horizon", "budget")
    assert (grown.tree.depth >= 0).all() != limited


def test_walking_back_a_kept_trees_rewards_and_values_gives_its_visits_and_q(grown):
    tree = grown.tree
    for lane in range(6):
        visits, returns = np.zeros(tree.visits.shape[1:]), np.zeros(tree.visits.shape[1:])
        for simulation in range(1, grown.simulations + 1):
            node = tree.ended_at[lane, simulation]
            returned = np.float64(tree.value[lane, node])
            while node > 0:
                parent, action = tree.parent[lane, node], tree.action[lane, node]
                returned = tree.reward[lane, node] + grown.discount * returned
                visits[parent, action] += 1
                returns[parent, action] += returned
                node = parent
        np.testing.assert_array_equal(tree.visits[lane], visits)
        q = returns / np.maximum(visits, 1)
        np.testing.assert_allclose(tree.q[lane], q, rtol=1e-4, atol=1e-4)


def test_a_kept_trees_rewards_values_priors_and_embeddings_are_the_agents(grown):
    tree = grown.tree
    lane, node = np.nonzero(tree.parent >= 0)

    @jax.jit
    @jax.vmap
    def below(latent, action):
        child, reward = grown.agent.step(latent, action)
        return child, reward, grown.agent.predict(child)

    latents = tree.embedding[lane, tree.parent[lane, node]]
    child, reward, predicted = below(latents, tree.action[lane, node])
    np.testing.assert_allclose(tree.embedding[lane, node], child, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(tree.reward[lane, node], reward, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(tree.value[lane, node], predicted.value, rtol=1e-4, atol=1e-5)
    prior = jax.nn.softmax(predicted.policy_logits)
    np.testing.assert_allclose(tree.prior[lane, node], prior, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("max_depth", [0, 2, 4])
def test_a_kept_tree_equals_a_naive_searchs_node_for_node(max_depth):
    simulations, discount = 40, 0.97
    config = SearchConfig(simulations=simulations, tie_noise=0.0, max_depth=max_depth)
    rng = np.random.default_rng(0)
    # Irrational numbers, so that no two scores tie.
    logits, value, reward = rng.normal(size=(5, 2)), rng.normal(size=5), rng.normal(size=(5, 2))
    parts = Parts(
        step=lambda s, a: (jnp.asarray(NEXT)[s, a], jnp.asarray(reward, jnp.float32)[s, a]),
        prior=lambda s: jnp.asarray(logits, jnp.float32)[s],
        leaf=lambda s, depth, key: jnp.asarray(value, jnp.float32)[s],
    )

    @jax.jit
    def grow(roots):
        key = jax.random.key(0)
        return search(parts, roots, key, config, discount, keep_tree=True).tree

    tree = jax.device_get(grow(jnp.arange(5)))
    for lane in range(5):
        naive = naive_tree(
            lambda s, a: (int(NEXT[s, a]), float(reward[s, a])),
            logits.__getitem__,
            value.__getitem__,
            lane,
            simulations,
            discount,
            config,
        )
        rows = np.flatnonzero(tree.depth[lane] >= 0)
        assert len(rows) == len(naive)
        row_of = dict(zip(map(id, naive), rows, strict=True))
        for row, node in zip(rows, naive, strict=True):
            children = [row_of.get(id(node.children.get(a)), -1) for a in range(2)]
            np.testing.assert_array_equal(tree.children[lane, row], children)
            np.testing.assert_array_equal(tree.visits[lane, row], node.visits)
            assert tree.depth[lane, row] == node.depth
            assert tree.embedding[lane, row] == node.state
            q = node.returns / np.maximum(node.visits, 1)
            np.testing.assert_allclose(tree.q[lane, row], q, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(tree.prior[lane, row], node.prior, rtol=1e-5)
            np.testing.assert_allclose(tree.value[lane, row], node.value, rtol=1e-6)
            np.testing.assert_allclose(tree.reward[lane, row], node.reward, rtol=1e-6)


def test_impossible_settings_are_refused():
    for wrong in ({"simulations": 0}, {"range_floor": 0.0}, {"dirichlet_fraction": 2.0}):
        with pytest.raises(ConfigError, match="search"):
            SearchConfig(**wrong)
