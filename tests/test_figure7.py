"""Figure 7 as a run makes it: bounded episodes, and a picture that holds its legend."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.compute as pc
from matplotlib.backends.backend_agg import FigureCanvasAgg

import muscope
from muscope import envs
from muscope.experiments import figure7
from muscope.storage import tables


def test_figure_7_counts_the_first_moves_only(module_tiny, tmp_path):
    """With a bound on moves, returns are of those moves."""
    evaluate = dataclasses.replace(module_tiny.evaluate, planning_steps=5)
    config = dataclasses.replace(module_tiny, evaluate=evaluate)
    run = muscope.train(config, tmp_path / "run")
    table = muscope.evaluate(run, ["figure7"]).table_path("figure7")
    rows = tables.read(table)
    assert set(rows["most_steps"].to_pylist()) == {5}
    assert max(rows["length"].to_pylist()) == 5
    np.testing.assert_array_equal(rows["return"].to_numpy(), rows["length"].to_numpy())

    # However many panels there are, the legend lies within the picture.
    one_leaf = rows.filter(pc.field("leaf") != "value")
    for given in (rows, one_leaf):
        figure = figure7.plot({"figure7": given})
        FigureCanvasAgg(figure).draw()
        legend = figure.legends[0].get_window_extent()
        assert legend.x0 >= 0
        assert legend.x1 <= figure.bbox.x1


def test_baselines_are_told_apart(module_tiny, tmp_path, monkeypatch):
    """In place of the sampled prior one action for ever, of the greedy one what balances longer."""
    environment = envs.make(module_tiny.environment)

    def for_ever(environment_, agent):
        return lambda states, key: jnp.zeros(states[0].shape[0], jnp.int32)

    def towards_the_fall(environment_, agent):
        return lambda states, key: (jax.vmap(environment.observe)(states)[:, 2] > 0).astype(int)

    monkeypatch.setattr(figure7, "prior_policy", for_ever)
    monkeypatch.setattr(figure7, "greedy_prior_policy", towards_the_fall)
    run = muscope.train(module_tiny, tmp_path / "run")
    rows = tables.read(muscope.evaluate(run, ["figure7"]).table_path("figure7"))
    lengths = {
        prior: rows.filter(pc.field("prior") == prior)["length"].to_pylist()
        for prior in figure7.BASELINES
    }
    assert max(lengths["sampled"]) < 12 < min(lengths["greedy"])
