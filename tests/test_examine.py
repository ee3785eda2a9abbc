"""The public door: perfect and biased agents through it, and bad ones turned away in one line."""

import dataclasses
import json
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tabular import TabularMDP, perfect_agent
from value_error_by_hand import decode

import muscope
from muscope import cli
from muscope.agent import Prediction, TrueModel
from muscope.envs import CartPole, Spec
from muscope.errors import ConfigError, RunError
from muscope.experiments import registry
from muscope.storage import tables

LOOK = {
    "figure3": {"sequences": 3},
    "endings": {"sequences": 3},
    "figure4": {"horizon": 3},
    "figure5": {"sequences": 3},
    "figure6": {"simulations": 4, "horizon": 4},
    "figure7": {"simulations": [1, 3], "horizon": 4, "episodes": 2, "steps": 30},
    "decisions": {"simulations": 3, "horizon": 4, "q_horizon": 5, "sequences": 3},
}
FEW = muscope.EvaluateConfig(episodes=2, states=4)
GAMMA, BIAS, K = 0.95, 0.25, 4
WORLD = CartPole()


def true_model(bias=0.0):
    return TrueModel(WORLD, decode, reward_bias=bias)


def subject(agents, environment=None):
    return muscope.subject(
        agents,
        environment or WORLD,
        discount=GAMMA,
        unroll=K,
        search=muscope.SearchConfig(simulations=8),
    )


@pytest.fixture(scope="module")
def examined(tmp_path_factory):
    """The environment itself, and it with a constant bias of its rewards, at two steps."""
    out = tmp_path_factory.mktemp("door") / "mine"
    agents = [true_model(), true_model(BIAS)]
    return muscope.examine(subject({0: agents, 10: agents}), out, None, FEW, LOOK)


def column(folder, table, name, agent):
    rows = tables.read(folder.table_path(table))
    return rows.filter(np.equal(rows["agent"].to_numpy(), agent))[name].to_numpy()


def test_a_perfect_subject_has_no_error_in_any_figure(examined):
    for table, names in (
        ("figure3", ("error", "absolute_error", "alive_error", "ended_error", "reward_error")),
        ("endings", ("alive_error", "ended_error")),
        ("figure4", ("error", "alive_error", "ended_error")),
        ("figure4_states", ("mean_error", "likely_error")),
        ("figure5", ("error",)),
        ("figure6", ("error", "error_tree_path")),
        ("decisions", ("model_error",)),
    ):
        for name in names:
            np.testing.assert_allclose(column(examined, table, name, 0), 0.0, atol=1e-6)


def test_a_constant_bias_has_its_closed_form(examined):
    total = BIAS * (1 - GAMMA ** np.arange(1, 11)) / (1 - GAMMA)
    horizon = column(examined, "figure3", "horizon", 1)
    assert set(horizon) == {1, 2, 3, 4}
    np.testing.assert_allclose(
        column(examined, "figure3", "error", 1), total[horizon - 1], rtol=1e-4
    )
    np.testing.assert_allclose(column(examined, "figure5", "error", 1), total[K - 1], rtol=1e-4)
    np.testing.assert_allclose(column(examined, "figure4", "error", 1), total[2], rtol=1e-4)
    np.testing.assert_allclose(column(examined, "figure6", "error", 1), total[3], rtol=1e-4)
    np.testing.assert_allclose(column(examined, "decisions", "model_error", 1), total[3], rtol=1e-4)


def test_figure_7_plans_alike_in_a_perfect_model(examined):
    rows = [r for r in tables.read(examined.table_path("figure7")).to_pylist() if r["agent"] == 0]
    returns = {
        model: [r["return"] for r in rows if r["model"] == model and r["leaf"] == "rollout"]
        for model in ("learned", "true")
    }
    assert returns["learned"] == returns["true"]


def test_there_is_a_report_with_claims_and_every_picture(examined):
    page = examined.report_path.read_text()
    assert page.count("data:image/svg+xml;base64,") == len(registry.OWN)
    assert "cart-pole, agent subject</h1>" in page
    assert "2 agents, 10 training steps each" in page
    judged = tables.read(examined.table_path("claims")).to_pylist()
    assert {row["n_agents"] for row in judged} == {2}
    cli.main(["claims", str(examined.path)])
    about = json.loads((examined.path / "examination.json").read_text())
    assert about["experiments"]["figure3"] == {"sequences": 3, "horizon": 0}


def test_a_table_says_what_made_it(examined):
    path = examined.table_path("figure3")
    made = json.loads(tables.about(path)["made_by"])
    assert made["muscope"] == muscope.__version__
    assert made["jax"] == jax.__version__
    assert {"jax", "muscope", "platform", "python", "revision"} <= set(made)
    field = tables.read(path).schema.field("error")
    assert field.metadata[b"unit"] == b"return"
    assert b"Definition 2" in field.metadata[b"meaning"]


def test_an_examination_goes_on_where_it_stopped(examined):
    stamps = {p: p.stat().st_mtime_ns for p in examined.path.glob("cells/*/*.parquet")}
    lost = examined.cell_path("figure3", "step-00000000-agent-001")
    lost.unlink()
    agents = [true_model(), true_model(BIAS)]
    again = subject({0: agents, 10: agents})
    muscope.examine(again, examined.path, None, FEW, LOOK)
    assert lost.exists()
    after = {p: p.stat().st_mtime_ns for p in stamps}
    assert {p for p in stamps if after[p] != stamps[p]} == {lost}


def test_changed_agents_are_looked_at_anew(tmp_path):
    for bias in (0.0, BIAS):
        folder = muscope.examine(subject(true_model(bias)), tmp_path / "x", ["3"], FEW, LOOK)
    assert column(folder, "figure3", "error", 0)[0] == pytest.approx(BIAS, rel=1e-4)


def test_the_report_imports_no_environment(examined, monkeypatch):
    monkeypatch.setattr("muscope.envs.registry.make", lambda which: pytest.fail("made one"))
    muscope.report(examined.path)


class Incomplete(NamedTuple):
    weight: jax.Array


class Plain:
    """No pytree."""

    def represent(self, observation):
        return observation

    def step(self, z, action):
        return z, jnp.zeros(())

    def predict(self, z):
        return Prediction(jnp.zeros(2), jnp.zeros(()))


class Loose(eqx.Module):
    """An agent whose functions may return anything."""

    weight: jax.Array
    given: tuple = eqx.field(static=True)

    def represent(self, observation):
        return self.given[0](self.weight, observation)

    def step(self, z, action):
        return self.given[1](self.weight, z, action)

    def predict(self, z):
        return Prediction(*self.given[2](self.weight, z))


def functions(represent=None, step=None, predict=None, weight=1.0):
    given = (
        represent or (lambda p, o: o * p),
        step or (lambda p, z, a: (z, jnp.sum(z) * p)),
        predict or (lambda p, z: (z[:2], jnp.sum(z))),
    )
    return Loose(jnp.array(weight), given)


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        (Incomplete(jnp.zeros(3)), "Incomplete is no agent: it has no function 'represent'"),
        (Plain(), "Plain is no pytree"),
        (functions(predict=lambda p, z: (z[:3], z[0])), r"policy_logits has shape \(3,\).*\(2,\)"),
        (
            functions(predict=lambda p, z: (z[:2], z[:1])),
            r"value has shape \(1,\); it must be \(\)",
        ),
        (functions(step=lambda p, z, a: (z, z)), r"step's reward has shape \(4,\)"),
        (functions(step=lambda p, z, a: (z[:2], z[0])), "latent state of the form that it takes"),
        (functions(step=lambda p, z, a: z), r"must return \(latent state, reward\)"),
        (functions(represent=lambda p, o: o @ jnp.zeros((3, 2))), "represent fails on"),
        (functions(weight=float("nan")), "latent state is not finite"),
        (functions(step=lambda p, z, a: (z, p / (0.0 * p))), "step's reward is not finite"),
        (functions(step=lambda p, z, a: (z, a)), "reward is int32; it must be a real number"),
    ],
)
def test_a_bad_agent_gets_one_line_before_anything_is_written(agent, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as error:
        muscope.examine(subject(agent), tmp_path / "x", None, FEW, LOOK)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_actions": 0}, "num_actions"),
        ({"time_limit": 0}, "time_limit"),
        ({"observation_shape": (7,)}, "observ"),
    ],
)
def test_a_bad_environment_gets_one_line_before_anything_is_written(change, message, tmp_path):
    class Broken(TabularMDP):
        spec = Spec(**{**TabularMDP.spec._asdict(), **change})

    made = dataclasses.replace(FEW)
    with pytest.raises(ConfigError, match=message) as error:
        muscope.examine(subject(perfect_agent(), Broken()), tmp_path / "x", None, made, LOOK)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"agents": []}, "equally many agents"),
        ({"agents": {0: [perfect_agent()], 1: [perfect_agent()] * 2}}, "equally many agents"),
        ({"discount": 0.0}, "discount must lie in"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"unroll": 0}, "unroll must be a whole number of at least 1"),
        ({"agents": [true_model(), perfect_agent()]}, "of one kind"),
    ],
)
def test_an_impossible_subject_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        muscope.subject(**{"agents": perfect_agent(), "environment": TabularMDP(), **arguments})


def test_names_that_lead_nowhere_get_one_line(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("agent = 3\ndef fails():\n    return 1 / 0\n")
    for name, message in (
        ("nobody", "names no agent"),
        (f"{tmp_path}/none.py:subject", "there is no file"),
        (f"{tmp_path}/mine.py:subject", "has no 'subject'"),
        (f"{tmp_path}/mine.py:agent", "gives a int; it must be a subject"),
        (f"{tmp_path}/mine.py:fails", "ZeroDivisionError"),
        ("muzero-general:nothing.checkpoint", "nothing.checkpoint"),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(["examine", name, "--out", str(tmp_path / "x")])
        assert stop.value.code == 1
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="is not an examination"):
        muscope.examine(subject(true_model()), tmp_path / "x", ["2"], FEW)
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["thesis.txt"]
