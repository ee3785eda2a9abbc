"""Value errors in plain Python, and blocks of agents whose errors are known."""

import jax
import jax.numpy as jnp
import numpy as np
from tabular import NEXT, REWARD, TERMINAL, TabularMDP, TabularState, perfect_agent

import muscope
from muscope.config import EvaluateConfig, SearchConfig
from muscope.envs import CartPoleState
from muscope.envs.cart_pole import THETA_LIMIT, X_LIMIT
from muscope.evaluation.sequences import behaviour_at
from muscope.experiments.lab import Lab

GAMMA, HORIZON = 0.9, 4
COLD = 1e-5  # a temperature at which Equation 1 is deterministic
WRONG = REWARD + np.array([[0.5, -0.25], [0.0, 1.0], [-2.0, 0.0], [0.1, 0.3], [0.7, -0.2]])


def by_hand(state, actions, reward=REWARD):
    """Rewards and ended flags along a sequence."""
    rewards, ended = [], []
    for action in actions:
        rewards.append(reward[state, action])
        ended.append(bool(TERMINAL[state]))
        state = NEXT[state, action]
    return np.array(rewards), np.array(ended)


def closed_form(start, actions, reward):
    """v - v_hat for horizons 1..h."""
    true, _ = by_hand(start, actions)
    predicted, _ = by_hand(start, actions, reward)
    return np.cumsum(GAMMA ** np.arange(HORIZON) * (true - predicted))


def decode(observation):
    """Cart Pole's state from its observation, which shows all of it."""
    over = (jnp.abs(observation[0]) > X_LIMIT) | (jnp.abs(observation[2]) > THETA_LIMIT)
    return CartPoleState(observation, over)


def random_agent(seed, reward):
    """A random policy and value over the MDP with other rewards."""
    rng = np.random.default_rng(seed)
    return perfect_agent(rng.normal(size=(5, 2)), rng.normal(size=5) + 2.0, reward)


def bench_of(agents, temperature, states=6, environment=None):
    """A bench whose checkpoint number i, at step 4 i, holds two copies of ``agents[i]``."""
    subject = muscope.subject(
        {4 * i: [agent, agent] for i, agent in enumerate(agents)},
        environment or TabularMDP(),
        discount=GAMMA,
        unroll=HORIZON,
        search=SearchConfig(simulations=16, tie_noise=0.0),
        temperature=temperature,
    )
    return Lab(subject, EvaluateConfig(episodes=8, states=states)).bench((0, 1))


def policy_table(bench, agent, temperature):
    """pi_MuZero(a | s) in each of the five states. [5, A]"""
    scope = bench.scope
    states, key = TabularState(jnp.arange(5)), jax.random.key(0)
    return np.exp(behaviour_at(scope.truth, agent, states, key, scope.search, GAMMA, temperature))


def greedy_table(bench, agent):
    """The deterministic pi_MuZero: its action in each of the five states."""
    return np.argmax(policy_table(bench, agent, COLD), axis=1)


def walk(state, action_of):
    """The actions that a deterministic policy takes."""
    actions = []
    for _ in range(HORIZON):
        actions.append(action_of[state])
        state = NEXT[state, actions[-1]]
    return actions
