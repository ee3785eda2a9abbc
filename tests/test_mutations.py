"""Settings that cannot be: refused in one line, in time, with nothing written."""

import random

import jax
import numpy as np
import pytest
from conftest import tiny_config
from mutations import ODD, WORLDS, Bench, all_leaves, line_of, of_files, of_lines, trains, values
from tabular import TabularMDP, perfect_agent

import muscope
from muscope.config import Config, from_dict, to_dict
from muscope.errors import ConfigError, RunError
from muscope.experiments import every_sequence
from muscope.room import nbytes, refuse, total
from muscope.training.population import Population

QUICK = WORLDS[0]
"""Making the others' worlds takes the seconds; ``benchmarks/mutations.py`` tries them."""


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, (QUICK,))


def changed(**sections):
    data = to_dict(tiny_config())
    for section, values_ in sections.items():
        data[section] |= values_
    return from_dict(data)


def test_every_number_has_bounds_on_both_sides():
    for world in WORLDS[:2]:
        for leaf in all_leaves(world):
            tried = values(leaf.hint)
            kind = str(leaf.hint)
            if "int" in kind or "float" in kind:
                assert len(tried) >= len(ODD) + 6, leaf.path


def test_there_are_as_many_mutations_as_the_benchmark_says():
    assert len(of_files()) >= 687
    assert len(of_lines()) >= 813


def test_mutated_files_are_accepted_or_refused_in_one_line(bench):
    sample = random.Random(5).sample([m for m in of_files() if m.world == QUICK], 90)
    tried = [(m, bench.try_file(m)) for m in sample]
    assert not [(m.words, outcome.wrong) for m, outcome in tried if outcome.wrong]
    assert 5 < sum(outcome.accepted for _, outcome in tried) < 45


def test_a_file_nested_too_deeply_is_refused(bench):
    (bench.run / "config.json").write_text('{"experiments": ' + '{"a": ' * 100_000)
    with pytest.raises(RunError, match=r"config\.json cannot be read"):
        muscope.open_run(bench.run)


def test_mutated_lines_are_accepted_or_refused_in_one_line(bench):
    rng = random.Random(6)
    sample = rng.sample([m for m in of_lines() if m.world == QUICK], 30)
    tried = [(m, bench.try_line(line_of(m, bench.run, rng))) for m in sample]
    assert not [(m.words, outcome.wrong) for m, outcome in tried if outcome.wrong]
    assert 2 < sum(outcome.accepted for _, outcome in tried) < 20


def test_extreme_but_legal_settings_train_to_finite_parameters():
    extreme = changed(
        optimiser={"learning_rate": 1.0, "clip": 1e6},
        loss={"value_weight": 1e4},
        search={"c1": 0.0, "range_floor": 1e-9},
        replay={"priority_floor": 1e-9},
    )
    assert not trains(extreme)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": {"width": 100_000, "latent": 100_000}}, "lower network.width"),
        ({"replay": {"capacity": 10**9}}, "lower replay.capacity or train.agents"),
        ({"train": {"lanes": 10**6}, "replay": {"capacity": 10**8}}, "lower "),
        (
            {"train": {"reanalyse_ratio": 1e4, "lanes": 16}, "search": {"simulations": 1_000}},
            "lower search.simulations, train.lanes",
        ),
        ({"train": {"batch_size": 10**6}, "network": {"width": 10_000}}, "lower train.batch_size"),
    ],
)
def test_what_does_not_fit_is_refused_without_building_it(settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Population(changed(**settings)).refuse_what_does_not_fit()
    assert "training takes about" in str(caught.value)


def test_a_look_that_does_not_fit_is_refused(bench):
    for name, settings, lower in (
        ("figure3", {"sequences": 10**6}, "lower figure3.sequences, evaluate.states"),
        ("decisions", {"sequences": 10**6}, "lower decisions.sequences, evaluate.states"),
        (
            "figure7",
            {"episodes": 10**6, "simulations": [1, 2_000]},
            "lower figure7.episodes, figure7.simulations",
        ),
    ):
        config = to_dict(tiny_config())
        config["evaluate"]["states"] = 1_000
        config["experiments"][name] |= settings
        bench.plain[QUICK] = config
        bench.write(QUICK)
        outcome = bench.try_file(of_files()[0]._replace(path=("preset",), value="x"))
        assert not outcome.accepted
        assert outcome.said.startswith(f"{name} takes about")
        assert lower in outcome.said


def test_figure_4_with_more_actions_has_a_shorter_horizon():
    class FourActions(TabularMDP):
        spec = TabularMDP.spec._replace(num_actions=4)

    subject = muscope.subject(perfect_agent(), FourActions())
    with pytest.raises(ConfigError, match=r"figure4\.horizon = 16 makes 4,294,967,296"):
        every_sequence.check(subject, every_sequence.AllSequences(horizon=16))


def test_the_estimate_is_near_what_the_compiled_program_takes():
    config = changed(train={"batch_size": 512}, network={"width": 64}, replay={"capacity": 20_000})
    population = Population(config)
    form = jax.eval_shape(population.initial)
    compiled = population._advance.lower(form, jax.ShapeDtypeStruct((), np.int32)).compile()
    used = compiled.memory_analysis()
    one = used.argument_size_in_bytes + used.temp_size_in_bytes
    counted = total([p for p in population.memory() if not p.what.startswith("saving")])
    if population.memory()[-1].what.startswith("saving"):
        pytest.fail("the update should be the greatest here")
    assert 0.7 < counted / (one * population.mesh.size) < 1.5
    assert nbytes(form.replay) == population.replay_bytes()


def test_the_defaults_fit(monkeypatch):
    device = jax.local_devices()[0]
    words = refuse("training", Population(Config()).memory(), device)
    assert words.startswith("training takes about 0.")
