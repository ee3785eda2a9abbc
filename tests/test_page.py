"""The report as people meet it: in a browser, from disk, with the network off."""

import base64
import csv
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from browser import chromium, opened

from muscope import cli, statistics
from muscope.experiments.decisions import by_error
from muscope.reporting import embed
from muscope.reporting import page as pages
from muscope.storage import tables
from muscope.storage.folder import EXAMINATION, Folder

KEPT = Path(__file__).parents[1] / "docs" / "results" / "cart-pole-quick"
AGENTS = 3
EVIL = "<script>alert(1)</script><b class=evil>bold</b>"


def copied(path, names, preset="quick"):
    """A folder of some tables of a real study, of its first agents alone."""
    for name in names:
        table = tables.read(KEPT / f"{name}.parquet")
        about = tables.metadata(table.schema) | {"agents": str(AGENTS)}
        table = statistics.rows(table, agent=range(AGENTS))
        at = table.column_names.index("preset")
        table = table.set_column(at, table.schema.field(at), pa.repeat(preset, len(table)))
        (path / "tables").mkdir(parents=True, exist_ok=True)
        tables.write(path / "tables" / f"{name}.parquet", table, about)
    return Folder(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "run <i>7"
    made = copied(path, ["figure2", "figure4", "figure4_states", "figure5", "decisions"], EVIL)
    pages.report(made)
    return made


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def visit(browser, folder):
    with opened(browser, folder.report_path) as visit:
        yield visit
        assert visit.said == []


def four(x):
    """As the page shows a number: four digits."""
    return float(f"{x:.4g}")


def shown(text):
    return float(text.replace("−", "-").replace(",", ""))


def test_a_chart_tells_the_tables_means_and_the_slider_moves_it(visit, folder):
    table = tables.read(folder.table_path("figure4"))
    card = visit.drawn("r0-figure4")
    slider = card.locator("input[type=range]")
    steps = statistics.values(table, "step")
    for place in (len(steps) - 1, 1):
        slider.fill(str(place))
        visit.settled("r0-figure4")
        assert card.locator("output").inner_text() == f"{steps[place]:,}"
        for chart, column in ((0, "probability"), (1, "error")):
            told = visit.under("r0-figure4", chart, 0.6, 0.5)
            rank = int(shown(told["rank, unlikely to likely"]))
            mean = statistics.summary(table, column, step=steps[place], rank=rank)
            assert shown(told["mean over agents"]) == four(mean.mean)
            assert shown(told["± standard error"]) == pytest.approx(mean.standard_error, rel=5e-3)
            assert told["agents"] == str(AGENTS)


def test_agents_are_chosen_and_single_ones_shown(visit, folder):
    table = tables.read(folder.table_path("figure2"))
    card = visit.drawn("r0-figure2")
    card.locator(".agents summary").click()
    card.get_by_label("1", exact=True).uncheck()
    card.get_by_label("single agents").check()
    visit.settled("r0-figure2")
    told = visit.under("r0-figure2", 0, 0.6, 0.3)
    step, policy = int(shown(told["training steps"])), told["policy"]
    per_agent = statistics.means(
        statistics.rows(table, step=step, policy=policy), "return", agents=[0, 2]
    )  # [2]
    assert shown(told["mean over agents"]) == four(per_agent.mean())
    assert told["agent"] in ("0", "2")
    assert shown(told["its value"]) == four(per_agent[int(told["agent"]) // 2])
    assert card.locator(".which").inner_text() == "0, 2"


def test_figure_5_says_how_wrong_a_model_is_on_a_policy(visit, folder):
    table = tables.read(folder.table_path("figure5"))
    visit.drawn("r0-figure5")
    told = visit.under("r0-figure5", 0, 0.5, 0.4)
    x, y = (int(shown(told[name])) for name in ("model at step X", "policy at step Y"))
    mean = statistics.summary(table, "error", model_step=x, policy_step=y).mean
    assert shown(told["mean over agents"]) == four(mean)


def test_fifths_of_the_states_are_those_of_the_picture(visit, folder):
    table = tables.read(folder.table_path("decisions"))
    card = visit.drawn("r0-decisions")
    card.locator("input[type=range]").fill("0")
    visit.settled("r0-decisions")
    told = visit.under("r0-decisions", 1, 0.7, 0.3)
    step = statistics.values(table, "step")[0]
    errors, gains = by_error(table, step, told["model"], told["prior"])
    place = [four(x) for x in errors].index(shown(told["learned model's error there, mean"]))
    assert shown(told["mean over agents"]) == four(gains[place].mean)
    assert shown(told["± standard error"]) == pytest.approx(gains[place].standard_error, rel=5e-3)


@pytest.mark.parametrize("name", ["figure2", "figure4_states"])
def test_a_downloaded_table_has_the_tables_numbers(visit, folder, name, tmp_path):
    table = tables.read(folder.table_path(name)).drop_columns(["config"])
    with visit.page.expect_download() as download:
        visit.page.locator(f"button.csv[data-table={name}]").click()
    download.value.save_as(tmp_path / "it.csv")
    assert download.value.suggested_filename == f"{name}.csv"
    with (tmp_path / "it.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == table.column_names
    assert len(rows) == table.num_rows
    for column, values in zip(head, zip(*rows, strict=True), strict=True):
        wanted = table[column].to_pylist()
        if isinstance(wanted[0], str):
            assert list(values) == wanted
        else:
            numbers = [float(value) if value else np.nan for value in values]
            np.testing.assert_array_equal(numbers, np.array(wanted, float))


def test_pictures_are_there_to_take(visit):
    starts = {"PNG": "data:image/png;base64,iVBOR", "PDF": "data:application/pdf;base64,JVBER"}
    for name, start in {**starts, "SVG": "data:image/svg+xml;base64,"}.items():
        link = visit.page.locator("#r0-figure2 .downloads").get_by_text(name, exact=True)
        assert link.get_attribute("href").startswith(start)
        assert link.get_attribute("download") == f"figure2.{name.lower()}"


def test_names_with_html_in_them_are_text(visit, folder):
    assert EVIL in visit.page.locator("h1").inner_text()
    assert visit.page.locator(".evil").count() == 0
    assert "run <i>7" in visit.page.locator("main").inner_text()
    assert EVIL not in folder.report_path.read_text()


def test_a_claim_tells_what_was_computed(visit, folder):
    claims = tables.read(folder.table_path("claims")).to_pylist()
    assert visit.page.locator(".answer .claim").count() == sum(
        row["reading"] == "current" for row in claims
    )
    first = visit.page.locator(".answer .claim").first
    assert first.locator("summary").get_attribute("title") == claims[0]["statistic"]
    first.locator("summary").click()
    assert claims[0]["statistic"] in first.inner_text()
    assert claims[0]["verdict"] in first.locator("summary").inner_text()


def test_print_has_the_pictures_and_nothing_to_click(visit):
    visit.page.emulate_media(media="print")
    card = visit.page.locator("#r0-figure5")
    assert card.locator(".picture img").is_visible()
    for hidden in (".chart >> nth=0", ".controls", ".downloads"):
        assert not card.locator(hidden).is_visible()
    visit.page.emulate_media(media="screen")
    assert card.locator(".chart >> nth=0").is_visible()


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (390, True), (390, False)])
def test_everybody_can_read_it(browser, folder, width, dark):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with opened(browser, folder.report_path, width, dark) as visit:
        for key in ("r0-figure2", "r0-figure4", "r0-figure5"):
            visit.drawn(key)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        found = axe.run(visit.page, options={"resultTypes": ["violations"]})
        told = [(each["id"], each["nodes"][0]["html"]) for each in found.response["violations"]]
        assert told == []
        assert visit.said == []


def test_without_a_script_the_pictures_are_there(browser, folder):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(folder.report_path.resolve().as_uri())
    card = page.locator("#r0-figure2")
    assert card.locator(".picture img").is_visible()
    assert not card.locator(".controls").is_visible()
    context.close()


def test_two_runs_stand_side_by_side(browser, folder, tmp_path):
    other = Folder(tmp_path / "other")
    (other.path / "tables").mkdir(parents=True)
    shutil.copy(KEPT / "figure2.parquet", other.path / "tables")
    for each in (folder, other):
        (each.path / EXAMINATION).write_text("{}")
    cli.main(["report", str(folder.path), str(other.path), "--out", str(tmp_path / "both.html")])
    assert not other.report_path.exists()
    with opened(browser, tmp_path / "both.html") as visit:
        left, right = (visit.drawn(f"{run}-figure2") for run in ("r0", "r1"))
        a, b = left.bounding_box(), right.bounding_box()
        assert abs(a["y"] - b["y"]) < 2
        assert a["x"] + a["width"] < b["x"]
        assert "other has no such table" in visit.page.locator("main").inner_text()
        assert visit.page.locator(".answer .claim").first.locator(".found").count() == 2
        told = visit.under("r1-figure2", 0, 0.9, 0.3)
        assert told["agents"] == str(
            len(statistics.values(tables.read(KEPT / "figure2.parquet"), "agent"))
        )
        assert visit.said == []


def test_the_page_is_small_and_fetches_nothing(folder):
    page = folder.report_path.read_text()
    assert len(page) < 8_000_000
    for outside in ('src="http', 'href="http', "<script src", "<link", "@import", "url(http"):
        assert outside not in page
    panels = page.count('class="panels"')
    assert panels == 4
    json.loads(page.split('class="panels">')[1].split("</script>")[0])


def test_packed_columns_hold_every_number_exactly():
    columns = {
        "small": pa.array([1, -2, 3]),
        "large": pa.array([2**40, 0, -1]),
        "holes": pa.array([1, None, 3]),
        "exact": pa.array([0.1, float("nan"), 1e300]),
        "short": pa.array([0.5, None, -0.25]),
        "text": pa.array(["a", None, "a"]),
        "config": pa.array(["left", "out", "here"]),
    }
    packed = embed.table(pa.table(columns))
    data, kinds, read = zlib.decompress(base64.b64decode(packed["data"])), {}, {}
    for about in packed["columns"]:
        kind = about["kind"]
        kinds[about["name"]] = kind
        size = 8 if kind == "float64" else 4
        planes = np.frombuffer(data[: 3 * size], np.uint8).reshape(size, 3)
        data = data[3 * size :]
        dtype = {"int32": "<i4", "text": "<i4", "float32": "<f4", "float64": "<f8"}[kind]
        numbers = np.ascontiguousarray(planes.T).view(dtype).ravel()
        read[about["name"]] = [about["values"][i] for i in numbers] if kind == "text" else numbers
    assert data == b""
    assert list(kinds.values()) == ["int32", "float64", "float64", "float64", "float32", "text"]
    assert read["text"] == ["a", "", "a"]
    for name in ("small", "large", "holes", "exact", "short"):
        np.testing.assert_array_equal(read[name], np.array(columns[name].to_pylist(), float))
