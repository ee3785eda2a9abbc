"""One state looked at: its numbers are the search's, the true model's and the planners' own."""

import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browser import chromium, opened
from tabular import NEXT, REWARD, TERMINAL, TabularMDP, TabularState, perfect_agent

import muscope
from muscope import cli, looking, runtime
from muscope.config import SearchConfig
from muscope.errors import ConfigError
from muscope.evaluation.decisions import action_values
from muscope.evaluation.one_state import Closeness, returns_of, see
from muscope.evaluation.planners import Planner, plan
from muscope.reporting import one_state, tree_drawing
from muscope.search import learned_parts, search

GAMMA = 0.9
WRONG = REWARD + np.array([[0.5, 0.0], [0.0, 0.0], [0.0, -1.0], [0.0, 0.0], [3.0, 3.0]])
CLOSE = Closeness(simulations=9, horizon=4, episodes=5, steps=6)
SEARCH = SearchConfig(simulations=40)


@pytest.fixture(scope="module")
def wrong():
    """An agent whose rewards are wrong at three places, one of them past the end."""
    rng = np.random.default_rng(0)
    return perfect_agent(rng.normal(size=(5, 2)), rng.normal(size=5), WRONG)


@pytest.fixture(scope="module")
def seen(wrong):
    """State 0 of the MDP."""
    environment, state, key = TabularMDP(), TabularState(jnp.int32(0)), jax.random.key(4)
    looked = see(environment, environment, wrong, state, key, SEARCH, GAMMA, 0.5, CLOSE, 8)
    return jax.device_get(looked)


def test_the_tree_is_the_searches(wrong, seen):
    roots = jax.nn.one_hot(jnp.array([0]), 5)
    key = jax.random.split(jax.random.key(4), 4)[0]
    found = search(learned_parts(wrong), roots, key, SEARCH, GAMMA)
    np.testing.assert_array_equal(seen.tree.visits[0], found.visits[0])
    np.testing.assert_allclose(seen.tree.q[0], found.q[0], rtol=1e-6)
    np.testing.assert_allclose(seen.search_value, found.value[0], rtol=1e-6)


def test_beside_every_node_stands_what_is_true_of_its_actions(seen):
    rows = {row["node"]: row for row in one_state.nodes_of(seen).to_pylist()}
    assert len(rows) == SEARCH.simulations + 1
    ends = 0
    for row in rows.values():
        actions, node = [], row
        while node["parent"] >= 0:
            actions.insert(0, node["action"])
            node = rows[node["parent"]]
        place, over, true, predicted = 0, False, 0.0, 0.0
        for k, action in enumerate(actions):
            reward = 0.0 if over else REWARD[place, action]
            believed = WRONG[place, action]
            true, predicted = true + GAMMA**k * reward, predicted + GAMMA**k * believed
            place = NEXT[place, action]
            over = over or bool(TERMINAL[place])
        assert row["depth"] == len(actions)
        assert row["ended"] == over
        ends += over
        if actions:
            np.testing.assert_allclose(row["true_reward"], reward, atol=1e-6)
            np.testing.assert_allclose(row["predicted_reward"], believed, atol=2e-3)
        np.testing.assert_allclose(row["true_return"], true, atol=1e-5)
        np.testing.assert_allclose(row["predicted_return"], predicted, atol=2e-2)
        np.testing.assert_allclose(row["error"], abs(true - predicted), atol=2e-2)
    assert 0 < ends < len(rows)


def test_a_nodes_visits_and_prior_are_those_of_the_edge_to_it(seen):
    rows = one_state.nodes_of(seen).to_pylist()
    assert rows[0]["visits"] == SEARCH.simulations
    by_parent = {}
    for row in rows[1:]:
        by_parent.setdefault(row["parent"], []).append(row)
        assert row["visits"] == seen.tree.visits[row["parent"], row["action"]] > 0
        assert row["q"] == seen.tree.q[row["parent"], row["action"]]
    for parent, children in by_parent.items():
        ways = 0 if parent == 0 else 1  # A node's first visit adds it.
        above = next(row for row in rows if row["node"] == parent)
        assert sum(child["visits"] for child in children) == above["visits"] - ways


def test_the_principal_line_takes_the_most_visited_edges(seen):
    line = np.flatnonzero(seen.on_line)
    node, wanted = 0, [0]
    while seen.tree.visits[node].max() > 0:
        node = int(seen.tree.children[node, int(np.argmax(seen.tree.visits[node]))])
        wanted.append(node)
    assert line.tolist() == sorted(wanted)
    told = ~np.isnan(seen.returns).any(axis=1)
    assert np.flatnonzero(told).tolist() == sorted(wanted)[:8]


def test_true_values_are_returns_of_the_agents_policy_from_the_true_states(wrong, seen):
    nodes = np.flatnonzero(seen.on_line)[:8]
    places = seen.truth.states.index[nodes]
    again = returns_of(
        TabularMDP(),
        wrong,
        TabularState(jnp.asarray(places)),
        jax.random.key(9),
        SEARCH,
        GAMMA,
        0.5,
        400,
        6,
    )
    error = np.std(again, axis=1) * np.sqrt(1 / 5 + 1 / 400)
    apart = np.abs(np.mean(again, axis=1) - seen.returns[nodes].mean(axis=1))
    assert np.all(apart <= 4 * error + 1e-5)


def test_returns_of_one_action_are_a_hand_made_sum():
    """Nothing to choose: one simulation's action at a low temperature from a fixed prior."""
    agent = perfect_agent(logits=np.array([[30.0, -30.0]] * 5))
    states = TabularState(jnp.arange(4))
    found = returns_of(
        TabularMDP(),
        agent,
        states,
        jax.random.key(0),
        SearchConfig(simulations=1),
        GAMMA,
        0.1,
        3,
        5,
    )
    for start in range(4):
        place, total = start, 0.0
        for k in range(5):
            total += GAMMA**k * REWARD[place, 0]
            place = NEXT[place, 0]
        np.testing.assert_allclose(found[start], total, rtol=1e-5)


def test_planners_and_worths_are_figure_7s_and_the_decisions_own(wrong, seen):
    environment, state = TabularMDP(), TabularState(jnp.zeros(2, jnp.int32))
    _, plan_key, _, q_key = jax.random.split(jax.random.key(4), 4)
    for number, model in enumerate(("learned", "true")):
        found = plan(
            Planner(model, "rollout", 4),
            environment,
            wrong,
            state,
            jnp.array([True, False]),
            jax.random.fold_in(plan_key, number),
            SearchConfig(simulations=9),
            GAMMA,
        )
        np.testing.assert_array_equal(seen.planned[2 * number : 2 * number + 2], found.visits)
    one = TabularState(jnp.zeros(1, jnp.int32))
    q = action_values(environment, wrong, one, q_key, 5, 6, GAMMA)
    np.testing.assert_allclose(seen.q, q[:, 0], rtol=1e-6)


def test_a_drawn_tree_has_every_node_once_and_none_on_another(seen):
    rows = one_state.nodes_of(seen).to_pylist()
    drawing = tree_drawing.drawn(rows, ["up", "down"])
    places = [(node.x, node.y) for node in drawing.nodes]
    assert len(set(places)) == len(rows)
    for node, row in zip(drawing.nodes, rows, strict=True):
        assert 0 <= node.x <= drawing.width
        assert node.y == tree_drawing.MARGIN + tree_drawing.LEVEL * row["depth"]
        assert node.up is None or node.up in places
    by_depth = {}
    for x, y in sorted(places):
        assert x - by_depth.get(y, -np.inf) >= tree_drawing.SLOT - 1e-6
        by_depth[y] = x
    worst = max(rows, key=lambda row: row["error"])["node"]
    assert next(n for n in drawing.nodes if n.number == worst).shade == tree_drawing.SHADES - 1


@pytest.fixture(scope="module")
def run(tiny_study):
    """With HTML in its name, and no tables yet."""
    path = tiny_study.path.parent / "<b>run</b>"
    shutil.copytree(tiny_study.path, path, ignore=shutil.ignore_patterns("tables", "cells"))
    return muscope.open_run(path)


def test_a_page_is_written_and_opens(run, capsys, tmp_path):
    cli.main(["look", str(run.path), "--agent", "1", "--move", "2", "--returns", "3"])
    path = run.path / "look" / f"agent1-step{run.steps()[-1]}-episode0-move2.html"
    assert capsys.readouterr().out.strip() == str(path)
    text = path.read_text()
    assert "data:image/png;base64," in text
    assert "<b>run</b>" not in text
    assert "left" in text
    with chromium() as browser, opened(browser, path) as visit:
        page = visit.page
        first = page.locator("#picked").inner_text()
        page.locator("g.node").nth(1).click()
        assert page.locator("#picked").inner_text().startswith("node 1, ") != first
        page.locator("details summary").click()
        shown = page.locator("#nodes tr").count() - 1
        assert visit.said == []
        assert shown == page.locator("g.node").count() == run.config.search.simulations + 1


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (390, True)])
def test_everybody_can_read_it(run, width, dark):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    path = muscope.look(run, returns=2)
    with chromium() as browser, opened(browser, path, width, dark) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        found = axe.run(visit.page, options={"resultTypes": ["violations"]})
        told = [(each["id"], each["nodes"][0]["html"]) for each in found.response["violations"]]
        assert told == []
        assert visit.said == []


def test_chosen_states_are_those_of_decisions_and_stand_in_the_report(tiny_study, monkeypatch):
    run, traced = tiny_study, []
    monkeypatch.setattr(one_state, "see", lambda *given: traced.append(given) or see(*given))
    paths = muscope.look_at_chosen(run, returns=3)
    assert len(traced) == 1  # which takes long in Lunar Lander
    assert [path.stem for path in paths] == [
        "typical-model-error",
        "worst-model-error",
        "costliest-decision",
    ]
    rows = run.table("decisions").to_pylist()
    own = [r for r in rows if (r["model"], r["prior"]) == ("learned", "policy")]
    worst = max(own, key=lambda row: row["model_error"])
    text = paths[1].read_text()
    assert f"agent {worst['agent']} at step 8: state {worst['state']} of decisions" in text
    costly = max(own, key=lambda row: row["best"] - row["improvement"])
    text = paths[2].read_text()
    assert f"agent {costly['agent']} at step 8: state {costly['state']} of decisions" in text
    muscope.report(run)
    report = run.report_path.read_text()
    assert report.count("<iframe") == 3
    with chromium() as browser, opened(browser, run.report_path) as visit:
        visit.page.locator(".state summary").nth(1).click()
        frame = visit.page.frame_locator(".state iframe").nth(1)
        frame.locator("g.node").nth(2).click()
        assert frame.locator("#picked").inner_text().startswith("node ")
        assert visit.said == []


def test_chosen_states_by_the_command_line(monkeypatch, capsys, tmp_path):
    asked = []
    monkeypatch.setattr(looking, "look_at_chosen", lambda *given: asked.append(given) or ["page"])
    cli.main(["look", "run", "--chosen", "--returns", "3"])
    cli.main(["look", "run", "--returns", "2", "--chosen"])
    cli.main(["look", "run", "--chosen", "True"])
    assert [returns for _, returns in asked] == [3, 2, 16]
    assert capsys.readouterr().out == "page\n" * 3
    with pytest.raises(SystemExit):
        cli.main(["look", str(tmp_path), "--chosen", "False"])
    assert len(asked) == 3


def test_a_study_looks_at_chosen_states_by_itself(tiny_study, monkeypatch):
    run = tiny_study
    made = sorted(path.name for path in run.look_path.iterdir())
    assert made == ["costliest-decision.html", "typical-model-error.html", "worst-model-error.html"]
    assert run.report_path.read_text().count("<iframe") == 3
    muscope.report(run)
    assert f"<code>muscope look {run.path} --chosen</code>" in run.report_path.read_text()
    asked = []

    def of_others(run):
        asked.append(run.path)
        raise muscope.RunError("all agents had diverged.")

    monkeypatch.setattr(looking, "look_at_chosen", of_others)
    muscope.study(run.config, run.path)
    assert not asked  # They are newer than the table.
    # Another page of a look is none of them, and does not hide that one is old.
    (run.look_path / "agent0.html").write_text("<title>a look</title>")
    times = run.table_path("decisions").stat().st_mtime_ns
    os.utime(run.look_path / made[0], ns=(times - 1, times - 1))
    muscope.study(run.config, run.path)
    assert asked == [run.path]
    asked.clear()
    shutil.rmtree(run.look_path)
    muscope.study(run.config, run.path)
    assert asked == [run.path]
    assert run.report_path.read_text().count("<iframe") == 0


def test_states_of_another_number_of_devices_are_refused(tiny_study, monkeypatch):
    monkeypatch.setattr(runtime, "devices", lambda: "7 cpu")
    with pytest.raises(muscope.RunError, match="was made on 2 cpu, and here are 7 cpu"):
        muscope.look_at_chosen(tiny_study)


def test_as_many_names_as_actions_or_none():
    environment = TabularMDP()
    assert one_state.action_names(environment) == ["0", "1"]
    environment.action_names = ("up", "down", "beside")
    with pytest.raises(ConfigError, match="has 2 actions and 3 action_names"):
        one_state.action_names(environment)


def test_without_decisions_nothing_can_be_chosen(run):
    with pytest.raises(muscope.RunError, match="has no table decisions to choose from"):
        muscope.look_at_chosen(run)


def test_a_move_beyond_the_end_and_an_agent_that_is_not_there_are_refused(run):
    with pytest.raises(ConfigError, match=r"episode 0 of agent 0 has \d+ moves; --move must lie"):
        muscope.look(run, move=499)
    with pytest.raises(muscope.RunError, match=r"has agents 0\.\."):
        muscope.look(run, agent=77)
