"""What an evaluation asks of a simulator is summed up in one line, before the training."""

import dataclasses

import jax.numpy as jnp
import pytest
from host_models import host_cart_pole

import muscope
from muscope import stages
from muscope.agent import TrueModel
from muscope.config import EvaluateConfig
from muscope.config.environment import HostConfig
from muscope.envs import CartPole
from muscope.errors import FigureError, HostError
from muscope.experiments import cost, registry
from muscope.experiments import evaluate as cells
from muscope.experiments import plans as asking
from muscope.foreign.wrappers import WithHistory
from muscope.work import total

LOOK = EvaluateConfig(episodes=3, states=4)


@pytest.fixture
def slow(monkeypatch):
    """A simulator on the host that takes a second for a step, a quarter of it if it is given."""
    monkeypatch.setattr(cost, "seconds_per_step", lambda *_: cost.Steps(1.0, 0.25))
    world = host_cart_pole(HostConfig(1))
    return muscope.subject([TrueModel(world, jnp.sum)] * 2, world)


def steps_of(works):
    return total(works, "environment")


def seconds_of(works):
    places = [work for work in works if work.kind == "environment"]
    return sum(work.calls * work.lanes * (0.25 if work.given else 1.0) for work in places)


def lines(capsys):
    return capsys.readouterr().err.splitlines()


def test_the_sum_is_told_with_its_parts_and_the_flags_that_shorten_it(slow, capsys):
    plans = asking.plan(slow, LOOK, {"figure7": {"steps": 7}}, ["figure2", "figure4", "figure7"])
    cells.announce(slow, plans)
    (line,) = lines(capsys)
    works = [p.experiment.work(slow, LOOK, p.settings) for p in plans]
    shared = 2 * LOOK.episodes * slow.environment.spec.time_limit
    most = sum(2 * steps_of(of) for of in works) + shared
    took = sum(2 * seconds_of(of) for of in works) + shared
    assert took < most
    assert f"at most {most:,} steps of the game, {took / 60:,.0f} min;" in line
    assert f"figure7 {2 * seconds_of(works[2]) / took:.0%}" in line
    assert f"on-policy episodes {shared / took:.0%}" in line
    for flag in ("--evaluate.states", "--figure7.steps", "--figure7.simulations", "--figures"):
        assert flag in line


def test_what_is_left_is_told_alone_and_nothing_is_where_nothing_is_left(slow, capsys):
    plans = asking.plan(slow, LOOK, None, ["figure4"])
    one = cells.cells_of(plans[0], [1])[:1]
    cells.announce(slow, plans, [one])
    left = steps_of(plans[0].experiment.work(slow, LOOK, plans[0].settings))
    left += LOOK.episodes * slow.environment.spec.time_limit
    assert f"at most {left:,} steps" in lines(capsys)[0]
    cells.announce(slow, plans, [[]])
    on_device = muscope.subject(TrueModel(CartPole(), jnp.sum), "cart-pole")
    cells.announce(on_device, asking.plan(on_device, LOOK))
    assert lines(capsys) == []


def test_what_does_not_follow_actions_in_one_go_is_priced_step_by_step(monkeypatch):
    def never(*_):
        raise AssertionError("measured for nothing")

    monkeypatch.setattr(cost, "seconds_per_given", never)
    world = host_cart_pole(HostConfig(1))
    for environment in (world, WithHistory(world, 2)):  # No play, and a wrapper that steps.
        for truth in ("training", "game"):
            each = cost.seconds_per_step(environment, truth)
            assert 0 < each.stepped == each.given


def test_a_figure_without_a_count_is_named_and_one_that_fails_is_told(slow, capsys):
    own = registry.get("figure4")
    uncounted = dataclasses.replace(own, work=None, name="mine", states=False)
    (plan,) = asking.plan(slow, LOOK, None, ["figure4"])
    cells.announce(slow, [plan._replace(experiment=uncounted)])
    assert "mine not counted, no work is given" in lines(capsys)[0]
    failing = dataclasses.replace(uncounted, work=lambda *_: 1 / 0)
    with pytest.raises(FigureError, match=r"figure 'mine': its work failed: ZeroDivisionError.*py"):
        cells.announce(slow, [plan._replace(experiment=failing)])


def test_a_study_tells_it_before_it_trains(tiny, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(cells, "announce", lambda subject, plans, left=None: told.append(plans))

    def train(run, blocks=None):
        assert len(told) == 1
        raise HostError("enough")

    monkeypatch.setattr(stages.runner, "train", train)
    with pytest.raises(HostError, match="enough"):
        muscope.study(tiny, tmp_path / "run", ["figure2", "figure4"])
    assert [plan.experiment.name for plan in told[0]] == ["figure2", "figure4"]
