"""Figure 7's planners: horizons, hand-traced values, optimal plans, and Figure 6's errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tabular import NEXT, REWARD, TERMINAL, TabularMDP, TabularState, perfect_agent
from value_error_by_hand import WRONG, decode

from muscope.agent import TrueModel
from muscope.config import SearchConfig
from muscope.envs import CartPole, Transition
from muscope.evaluation.planned_play import greedy, planner_policy
from muscope.evaluation.planners import Planner, plan, planner_parts
from muscope.evaluation.play import play_from, starts
from muscope.evaluation.trajectories import plan_in_pairs, regularisation
from muscope.search import Parts, search

GAMMA = 0.9
LEAVES = ("rollout", "value")


def exact_q(horizon, discount=GAMMA):
    """Q of the best plan of ``horizon`` steps, by backward induction."""
    value = np.zeros(5)
    for _ in range(horizon):
        q = REWARD + discount * np.where(TERMINAL[NEXT], 0.0, value[NEXT])
        value = q.max(axis=1)
    return q


def guided(count):
    return jnp.ones(count, bool)


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("horizon", [3, 6])
def test_free_search_in_the_true_model_finds_an_optimal_action(leaf, horizon):
    """Uniform prior, from every state that has a best action for this horizon."""
    agent = perfect_agent(reward=WRONG)  # the networks know nothing right but value 0
    states = TabularState(jnp.arange(4))
    result = plan(
        Planner("true", leaf, horizon),
        TabularMDP(),
        agent,
        states,
        ~guided(4),
        jax.random.key(0),
        SearchConfig(simulations=600),
        GAMMA,
    )
    q = exact_q(horizon)
    for state in range(4):
        best = np.flatnonzero(np.isclose(q[state], q[state].max()))
        assert int(np.argmax(result.visits[state])) in best


def test_the_first_simulation_is_a_hand_traced_one():
    """N = 1: one child, valued by its rollout in the true model; the root's own by another."""
    environment, agent, horizon = TabularMDP(), perfect_agent(reward=WRONG), 4
    planner = Planner("true", "rollout", horizon)
    config, key = SearchConfig(simulations=1), jax.random.key(3)
    result = plan(
        planner, environment, agent, TabularState(jnp.arange(4)), ~guided(4), key, config, GAMMA
    )
    leaf_key = jax.random.split(key, 3)[2]
    keys = jax.random.split(jax.random.fold_in(leaf_key, 1), 4)
    for state in range(4):
        action = int(np.argmax(result.visits[state]))
        assert result.visits[state].sum() == 1
        place, total = NEXT[state, action], REWARD[state, action]
        actions = jax.random.randint(keys[state], (horizon,), 0, 2)[: horizon - 1]
        for k, a in enumerate(np.asarray(actions), start=1):
            total += GAMMA**k * REWARD[place, a]
            place = NEXT[place, a]
        np.testing.assert_allclose(result.q[state, action], total, rtol=1e-5)


@pytest.mark.parametrize("simulations", [1, 7, 40, 200])
@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_tree_and_rollout_never_go_beyond_the_horizon(horizon, simulations):
    """A model that counts its steps and pays 1 only for the step after the horizon."""

    class Counter(TabularMDP):
        def observe(self, state):
            return jax.nn.one_hot(0, 5)

        def step(self, state, action):
            reward = (state.index >= horizon).astype(jnp.float32)
            return Transition(TabularState(state.index + 1), reward, jnp.array(False))

    result = plan(
        Planner("true", "rollout", horizon),
        Counter(),
        perfect_agent(),
        TabularState(jnp.zeros(8, jnp.int32)),
        jnp.arange(8) % 2 == 0,
        jax.random.key(0),
        SearchConfig(simulations=simulations),
        GAMMA,
    )
    np.testing.assert_array_equal(result.q, 0.0)
    np.testing.assert_array_equal(result.value, 0.0)
    np.testing.assert_array_equal(result.visits.sum(axis=1), simulations)


def test_every_simulation_uses_the_whole_horizon():
    """Reward 1 per step, no end: every simulation is worth the full discounted sum."""

    class Steady(TabularMDP):
        def step(self, state, action):
            return Transition(state, jnp.float32(1.0), jnp.array(False))

    horizon = 5
    result = plan(
        Planner("true", "rollout", horizon),
        Steady(),
        perfect_agent(),
        TabularState(jnp.zeros(2, jnp.int32)),
        jnp.array([True, False]),
        jax.random.key(0),
        SearchConfig(simulations=100),
        GAMMA,
    )
    expected = np.sum(GAMMA ** np.arange(horizon))
    np.testing.assert_allclose(result.q, expected, rtol=1e-4)
    np.testing.assert_allclose(result.value, expected, rtol=1e-4)


def test_a_full_tree_of_the_horizon_averages_every_path_it_repeats():
    """H = 1: simulations only revisit the two children; Q is exact from the second visit on."""
    result = plan(
        Planner("true", "rollout", 1),
        TabularMDP(),
        perfect_agent(reward=WRONG),
        TabularState(jnp.arange(4)),
        ~guided(4),
        jax.random.key(0),
        SearchConfig(simulations=30),
        GAMMA,
    )
    np.testing.assert_allclose(result.q, REWARD[:4], rtol=1e-5)


def test_a_budget_equals_a_search_of_that_many_simulations():
    environment, agent = TabularMDP(), perfect_agent(np.ones((5, 2)), np.arange(5.0), WRONG)
    states, key = TabularState(jnp.arange(4)), jax.random.key(1)
    for model, leaf in itertools.product(("learned", "true"), LEAVES):
        planner = Planner(model, leaf, 6)

        def searched(simulations, budget, planner=planner):
            return plan(
                planner,
                environment,
                agent,
                states,
                guided(4),
                key,
                SearchConfig(simulations=simulations),
                GAMMA,
                budget=budget,
            )

        whole, part = searched(9, None), searched(40, jnp.int32(9))
        np.testing.assert_array_equal(part.visits, whole.visits)
        np.testing.assert_allclose(part.q, whole.q, rtol=1e-5)
        np.testing.assert_allclose(part.value, whole.value, rtol=1e-5)


def test_a_planners_policy_spends_its_budget():
    """H = 4 from state 0: one simulation picks blindly, many find the best action."""
    agent, states = perfect_agent(), TabularState(jnp.zeros(64, jnp.int32))
    best = int(np.argmax(exact_q(4)[0]))
    share = {}
    for budget in (1, 200):
        policy = planner_policy(
            Planner("true", "rollout", 4),
            TabularMDP(),
            agent,
            ~guided(64),
            SearchConfig(simulations=200),
            GAMMA,
            jnp.int32(budget),
        )
        share[budget] = float(np.mean(policy(states, jax.random.key(0)) == best))
    assert share[1] < 0.8
    assert share[200] > 0.95


@pytest.mark.parametrize("leaf", LEAVES)
def test_learned_and_true_planners_agree_when_the_learned_model_is_true(leaf):
    environment, key = CartPole(), jax.random.key(5)
    agent = TrueModel(environment, decode)
    states = starts(environment, 16, jax.random.key(0))
    guided = jnp.arange(16) % 2 == 0
    scores, visits = {}, {}
    for model in ("learned", "true"):
        planner, config = Planner(model, leaf, 12), SearchConfig(simulations=24)
        visits[model] = plan(planner, environment, agent, states, guided, key, config, GAMMA).visits
        policy = planner_policy(planner, environment, agent, guided, config, GAMMA)
        scores[model] = play_from(environment, policy, states, key)
    np.testing.assert_array_equal(visits["learned"], visits["true"])
    np.testing.assert_array_equal(scores["learned"].score, scores["true"].score)


def test_value_leaves_are_worth_nothing_past_a_true_termination():
    """State 2 pays 5 and ends under action 1; a value network that promises 100 everywhere."""
    agent = perfect_agent(value=np.full(5, 9.0))
    result = plan(
        Planner("true", "value", 1),
        TabularMDP(),
        agent,
        TabularState(jnp.array([2])),
        ~guided(1),
        jax.random.key(0),
        SearchConfig(simulations=20),
        GAMMA,
    )
    np.testing.assert_allclose(result.q[0], [2.0 + GAMMA * 9.0, 5.0], rtol=1e-3)


def test_greedy_breaks_ties_at_random_and_never_takes_a_lesser_action():
    visits = jnp.tile(jnp.array([[3.0, 1.0, 3.0]]), (2000, 1))
    taken = np.asarray(greedy(visits, jax.random.key(0)))
    assert set(taken) == {0, 2}
    assert 0.45 < np.mean(taken == 0) < 0.55


def test_the_pairs_do_not_change_the_search_and_tell_its_errors():
    """Visits as in the plain search; the errors of known wrong rewards by hand."""
    environment, agent, horizon = TabularMDP(), perfect_agent(reward=WRONG), 3
    states, key = TabularState(jnp.arange(4)), jax.random.key(2)
    config = SearchConfig(simulations=12)
    result = plan_in_pairs(environment, agent, states, ~guided(4), horizon, key, config, GAMMA)
    plain = plan(
        Planner("learned", "rollout", horizon),
        environment,
        agent,
        states,
        ~guided(4),
        key,
        config,
        GAMMA,
    )
    np.testing.assert_array_equal(result.visits, plain.visits)
    errors, visits = result.trace
    np.testing.assert_array_equal(visits[-1], plain.visits)
    np.testing.assert_array_equal(visits.sum(axis=-1), np.arange(1, 13)[:, None] * np.ones(4))
    # The first simulation of each lane: one tree action, then its rollout.
    leaf_key = jax.random.split(key, 3)[2]
    keys = jax.random.split(jax.random.fold_in(leaf_key, 1), 4)
    for state in range(4):
        action = int(np.argmax(visits[0, state]))
        gap = REWARD - WRONG
        place, total = NEXT[state, action], gap[state, action]
        np.testing.assert_allclose(errors.path[0, state], abs(total), atol=2e-4)
        actions = jax.random.randint(keys[state], (horizon,), 0, 2)[: horizon - 1]
        for k, a in enumerate(np.asarray(actions), start=1):
            total += GAMMA**k * gap[place, a]
            place = NEXT[place, a]
        np.testing.assert_allclose(errors.whole[0, state], abs(total), atol=5e-4)


def test_pairs_of_a_perfect_model_have_no_error():
    environment = CartPole()
    agent = TrueModel(environment, decode)
    states = starts(environment, 8, jax.random.key(0))
    result = plan_in_pairs(
        environment,
        agent,
        states,
        guided(8),
        16,
        jax.random.key(1),
        SearchConfig(simulations=30),
        0.997,
    )
    np.testing.assert_allclose(result.trace[0].whole, 0.0, atol=1e-5)


def test_tv_and_kl_of_known_distributions():
    """pi = (1/2, 1/2), visits (5, 1): pi_hat = (6/8, 2/8)."""
    tv, kl = regularisation(jnp.array([[0.5, 0.5]]), jnp.array([[5.0, 1.0]]))
    np.testing.assert_allclose(tv, [0.25])
    np.testing.assert_allclose(kl, [0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(2.0)], rtol=1e-6)
    tv, kl = regularisation(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 0.0]]))
    np.testing.assert_allclose([tv[0], kl[0]], [0.5, np.log(2.0)], rtol=1e-6)


def test_depth_limited_search_is_the_plain_one_if_the_limit_is_never_reached():
    agent = perfect_agent(np.ones((5, 2)), np.arange(5.0))
    parts = planner_parts(Planner("learned", "value", 50), TabularMDP(), agent, GAMMA)
    roots = jax.vmap(lambda s: agent.represent(jax.nn.one_hot(s, 5)))(jnp.arange(4))
    plain = Parts(
        step=agent.step,
        prior=lambda z: agent.predict(z).policy_logits,
        leaf=lambda z, depth, key: agent.predict(z).value,
    )
    key = jax.random.key(0)
    limited = search(plain, roots, key, SearchConfig(simulations=20, max_depth=20), GAMMA)
    free = search(plain, roots, key, SearchConfig(simulations=20), GAMMA)
    np.testing.assert_array_equal(limited.visits, free.visits)
    np.testing.assert_allclose(limited.value, free.value, rtol=1e-6)
    assert parts.trace is None
