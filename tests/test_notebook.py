"""What a notebook shows: charts, frames, and objects."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import muscope
from muscope import display
from muscope.errors import ConfigError
from muscope.experiments import registry
from muscope.search.simulation import SearchResult
from muscope.storage import tables

KEPT = Path(__file__).parents[1] / "docs" / "results" / "cart-pole-quick"


@pytest.fixture(scope="module")
def figure7():
    return tables.read(KEPT / "figure7.parquet")


def test_a_chart_of_a_table_in_one_call(figure7, tmp_path):
    chart = muscope.chart(figure7, step=2000, leaf="value", prior="policy", agents=[0, 1])
    values = {each["name"]: each["value"] for each in chart.spec["params"]}
    assert values["pick_step"] == 2000
    assert values["pick_prior"] == ["policy"]
    assert values["agents"] == [0, 1]
    assert len(chart.spec["datasets"]["rows"]) == figure7.num_rows
    assert "$" not in json.dumps(chart.spec["layer"])
    (mime,) = [name for name in chart._repr_mimebundle_() if "vegalite" in name]
    assert mime == "application/vnd.vegalite.v5+json"
    assert chart.save(tmp_path / "it.png").read_bytes()[:4] == b"\x89PNG"
    svg = chart.save(tmp_path / "it.svg").read_text()
    assert "simulations" in svg
    with pytest.raises(ConfigError, match=r"must end in one of \.png"):
        chart.save(tmp_path / "it.gif")


@pytest.mark.parametrize(
    "name", [name for name, known in registry.everything().items() if known.view is not None]
)
def test_every_view_can_be_drawn(name):
    import vl_convert

    altair = pytest.importorskip("altair")
    chart = muscope.chart(tables.read(KEPT / f"{name}.parquet"), single=True)
    assert isinstance(altair.Chart.from_dict(chart.spec), altair.LayerChart)  # By the schema.
    for version in ("5.21", "6.4"):
        assert vl_convert.vegalite_to_vega(json.dumps(chart.spec), vl_version=version)["marks"]


def test_what_cannot_be_charted_is_said(figure7):
    bare = pa.table({"x": [1, 2]})
    for table, chosen, message in (
        (bare, {}, "without muscope's metadata"),
        (figure7, {"stepp": 1}, "'stepp' is no choice of it. Did you mean 'step'?"),
        (figure7, {"panel": 3}, "has panels 0..0, not 3"),
        (figure7.replace_schema_metadata({"experiment": "a:b"}), {}, "of 'a:b', which is not"),
    ):
        with pytest.raises(ConfigError, match=message.replace("?", r"\?").replace(".", r"\.")):
            muscope.chart(table, **chosen)


def test_frames_have_the_tables_numbers(figure7, monkeypatch):
    polars = pytest.importorskip("polars")
    frame = muscope.frame(figure7, "polars")
    assert isinstance(frame, polars.DataFrame)
    np.testing.assert_array_equal(frame["return"].to_numpy(), figure7["return"].to_numpy())
    with pytest.raises(ConfigError, match="choose pandas or polars"):
        muscope.frame(figure7, "excel")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ConfigError, match="polars is not installed; pip install polars"):
        muscope.frame(figure7, "polars")


def test_a_search_shows_its_actions_by_visits():
    found = SearchResult(np.array([3, 9]), np.array([1.5, 2.25]), np.float32(2.0))
    shown = found._repr_html_()
    assert "value 2, 12 simulations" in shown
    assert shown.index("<td>1</td><td>9</td><td>2.25</td>") < shown.index("<td>0</td><td>3</td>")
    several = SearchResult(np.ones((4, 2)), np.ones((4, 2)), np.ones(4))
    assert "(4, 2)" in several._repr_html_()


def test_html_in_what_is_shown_is_text():
    shown = display.table("<b>", ["<i>"], [["<script>"]])
    for text in ("<b>&lt;b&gt;", "&lt;i&gt;", "&lt;script&gt;"):
        assert text in shown
