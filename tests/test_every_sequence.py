"""Figure 4 where every number is known."""

import numpy as np
import pytest
from tabular import NEXT
from value_error_by_hand import (
    GAMMA,
    HORIZON,
    WRONG,
    bench_of,
    by_hand,
    policy_table,
    random_agent,
)

import muscope
from muscope.errors import ConfigError
from muscope.evaluation.sequences import EverySequence, ranked
from muscope.experiments import every_sequence
from muscope.experiments.every_sequence import AllSequences, score_agent

POWERS = GAMMA ** np.arange(HORIZON)


@pytest.fixture(scope="module")
def bench():
    return bench_of([random_agent(3, WRONG)], 1.0)


def enumerate_sequences(start, policy):
    """Per sequence its probability, true and predicted rewards, and whether it had ended."""
    for number in range(2**HORIZON):
        actions = [(number >> bit) & 1 for bit in reversed(range(HORIZON))]
        probability, s = 1.0, start
        for action in actions:
            probability *= policy[s, action]
            s = NEXT[s, action]
        true, ended = by_hand(start, actions)
        yield probability, true, by_hand(start, actions, WRONG)[0], ended


@pytest.fixture(scope="module")
def exact(bench):
    """Probabilities [M, S], true and predicted rewards and ended flags [M, S, h]."""
    agent = random_agent(3, WRONG)
    starts = np.asarray(bench.on_policy(0).states.index[0])
    policy = policy_table(bench, agent, 1.0)
    every = [list(enumerate_sequences(start, policy)) for start in starts]
    return tuple(np.array([[s[i] for s in state] for state in every]) for i in range(4))


def test_every_sequence_has_its_closed_form(bench, exact):
    probability, true, predicted, ended = exact
    scored = bench.call(
        score_agent,
        bench.at(0),
        bench.on_policy(0).states,
        bench.keys(0, every_sequence.STREAM),
        shared=(1.0,),
        horizon=HORIZON,
    )
    difference = POWERS * (predicted - true)
    usual = np.mean(np.sum(probability[..., None] * true, axis=1))
    for name, expected in (
        ("error", np.abs(difference.sum(-1))),
        ("alive_error", np.abs((difference * ~ended).sum(-1))),
        ("ended_error", np.abs((difference * ended).sum(-1))),
        ("average_reward_error", np.abs((POWERS * (true - usual)).sum(-1))),
        ("value", (POWERS * true).sum(-1)),
    ):
        np.testing.assert_allclose(getattr(scored, name)[0], expected, atol=5e-4, err_msg=name)
    assert ended.any()
    np.testing.assert_allclose(np.exp(scored.log_probability[0]), probability, atol=1e-5)


def test_its_tables_are_means_of_them(bench, exact):
    probability, true, predicted, _ = exact
    error, value = np.abs((POWERS * (predicted - true)).sum(-1)), (POWERS * true).sum(-1)
    made = every_sequence.run(bench, AllSequences(horizon=HORIZON), 0)
    ranks = made["figure4"].slice(0, 2**HORIZON)
    order = np.argsort(probability, axis=1)
    np.testing.assert_allclose(
        ranks["probability"], np.take_along_axis(probability, order, 1).mean(0), atol=1e-5
    )
    assert ranks["rank"].to_pylist() == list(range(2**HORIZON))
    np.testing.assert_allclose(np.mean(ranks["error"]), error.mean(), atol=5e-4)
    states = made["figure4_states"].slice(0, len(error))
    np.testing.assert_allclose(states["mean_error"], error.mean(1), atol=5e-4)
    np.testing.assert_allclose(states["likely_error"], (probability * error).sum(1), atol=5e-4)
    np.testing.assert_allclose(states["spread"], value.std(1), atol=5e-4)


def test_ranking_orders_by_probability_and_keeps_pairs_together():
    probability = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]])
    error = np.array([[3.0, 1.0, 2.0], [10.0, 30.0, 20.0]])
    means = ranked(EverySequence(np.log(probability), error, *[error] * 4), [0])
    np.testing.assert_allclose(means["probability"], [0.15, 0.3, 0.55])
    np.testing.assert_allclose(means["error"], [16.5, 11.0, 5.5])


def test_equal_probabilities_are_ranked_at_random():
    """With all probabilities equal, every rank has the same expected error."""
    error = np.tile(np.arange(4.0), (4000, 1))
    same = np.full_like(error, 0.25)
    means = ranked(EverySequence(np.log(same), error, *[error] * 4), [0])
    np.testing.assert_allclose(means["error"], 1.5, atol=0.08)


def test_more_sequences_than_fit_are_refused():
    subject = muscope.subject(random_agent(3, WRONG), "lunar-lander")
    every_sequence.check(subject, AllSequences(horizon=8))
    with pytest.raises(ConfigError, match=r"figure4.horizon = 9 makes 262,144"):
        every_sequence.check(subject, AllSequences(horizon=9))
