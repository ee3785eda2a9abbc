"""Variants of a config, and sweeps of them: what is refused before any begins, what goes on."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from muscope import cli, presets, stages, studies, sweeps, variants
from muscope.config import Config, differences, to_dict
from muscope.errors import BusyError, ConfigError, DivergedError, Interrupted, JobError, RunError
from muscope.experiments import lab
from muscope.run_subject import RunSubject
from muscope.storage import tables
from muscope.storage.run import Run

FIGURES = ["figure2", "figure3"]
EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def base():
    return stages.resolved(presets.preset("cart-pole", "quick"))


def test_settings_are_changed_by_their_names(base):
    changes = {"loss.unroll": 5, "figure3.sequences": 2, "network.input_scale": [1, 1, 5, 1]}
    config = variants.changed(base, changes)
    told = differences(to_dict(base), to_dict(config))
    assert [line.split(" (")[0] for line in told] == [
        "experiments.figure3.sequences",
        "loss.unroll",
        "network.input_scale",
    ]
    for name in changes:
        assert variants.value_of(config, name) == changes[name]


def test_an_environments_own_settings_are_settings_too():
    base = stages.resolved(presets.preset("lunar-lander", "quick"))
    config = variants.changed(base, {"environment.options.terrain": "flat"})
    assert config.environment.options["terrain"] == "flat"
    with pytest.raises(ConfigError, match=r"'environment.options.terain'.* 'terrain'"):
        variants.changed(base, {"environment.options.terain": "flat"})
    for name in ("environment.options.terrain.x", "environment.options.none.x"):
        with pytest.raises(ConfigError, match=f"unknown setting '{name}'"):
            variants.changed(base, {name: 1})


def test_one_setting_at_a_time(base):
    assert (base.loss.gradient_scale, base.loss.unroll) == (0.5, 10)
    varied = [("loss.gradient_scale", [0.5, 1, 1.0]), ("loss.unroll", [5, 10, 20])]
    assert variants.one_by_one(base, varied) == {
        "loss.gradient_scale=1.0": {"loss.gradient_scale": 1.0},
        "loss.unroll=5": {"loss.unroll": 5},
        "loss.unroll=20": {"loss.unroll": 20},
    }
    named = variants.one_by_one(
        base, [("train.temperatures", [[1.0, 1.0, 1.0]]), ("network.kind", ["my net.py:Net"])]
    )
    assert list(named) == ["train.temperatures=1.0,1.0,1.0", "network.kind=my-net.py-Net"]


@pytest.mark.parametrize(
    ("words", "value"),
    [("0.5", 0.5), ("3", 3), ("True", True), ("[1, 2]", [1, 2]), ("mlp", "mlp"), ("1e-3", 1e-3)],
)
def test_values_of_the_command_line(words, value):
    assert variants.value_in_words(words) == value
    assert variants.value_in_words(words, like="a string") == words


@dataclasses.dataclass(frozen=True)
class Freer(Config):
    parts: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


def test_a_section_of_whatever_is_given_takes_what_is_given():
    base = Freer(parts={"one": {"weight": 1.0}})
    config = variants.changed(base, {"parts.one.size": 3, "parts.two.weight": 2.0})
    assert config.parts == {"one": {"weight": 1.0, "size": 3}, "two": {"weight": 2.0}}
    assert variants.value_of(base, "parts.one.weight") == 1.0
    assert variants.value_of(base, "parts.two.weight") is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to vary"),
        ({"base": {}}, "nothing to vary"),
        ({"a": {"loss.unrol": 5}}, "'a': unknown setting 'loss.unrol'. Did you mean 'unroll'"),
        ({"a": {"los.unroll": 5}}, r"'los.unroll' must be SECTION.SETTING.* Did you mean 'loss'"),
        ({"a": {"figure33.sequences": 5}}, "Did you mean 'figure3'"),
        ({"a": {"steps": 5}}, "must be SECTION.SETTING"),
        ({"a": {"preset": "paper"}}, "must be SECTION.SETTING"),
        ({"a": {"environment.name": "breakout"}}, "cannot be varied"),
        ({"a": {"loss.unroll": "x"}}, "'a': loss.unroll is 'x'; it must be a valid integer"),
        ({"a": {"loss.unroll": 501}}, "'a': loss.unroll is 501"),
        ({"a": {"train.updates_per_round": 3}}, "'a': checkpoint step 500 is not a multiple"),
        ({"a/b": {"loss.unroll": 5}}, "'a/b': it must be a folder's name"),
        ({"base": {"loss.unroll": 5}}, "'base': its name is taken"),
        ({"a": {"loss.unroll": 5}, "A": {"loss.unroll": 6}}, "'A': its name is taken"),
        ({"sweep.json": {"loss.unroll": 5}}, "its name is taken"),
        ({"a": {"loss.unroll": 10}}, "'a': it is the same as 'base'"),
        ({"a": {"loss.unroll": 5}, "b": {"loss.unroll": 5}}, "'b': it is the same as 'a'"),
        ({"a": {"loss.unroll": 0}, "b": {"loss.n_step": 0}}, r"^2 variants .*'a': .*'b': "),
    ],
)
def test_what_cannot_be_is_told_in_one_line(base, given, message):
    with pytest.raises(ConfigError, match=message) as stop:
        variants.all_of(base, given, sweeps.TAKEN)
    assert len(str(stop.value).splitlines()) == 1


def test_a_file_of_variants(tmp_path):
    file = tmp_path / "v.toml"
    file.write_text('[a]\nloss.unroll = 5\n"search.c1" = 2.0\n[b.loss]\nunroll = 7\n[c]\n')
    assert variants.read(file) == {
        "a": {"loss.unroll": 5, "search.c1": 2.0},
        "b": {"loss.unroll": 7},
        "c": {},
    }
    file.write_text("loss.unroll = 5\n[a\n")
    with pytest.raises(ConfigError, match=r"v.toml cannot be read"):
        variants.read(file)
    file.write_text("seed = 5\n")
    with pytest.raises(ConfigError, match="'seed' must be a table"):
        variants.read(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        variants.read(tmp_path / "none.toml")
    file.write_text("[a]\nloss.unroll = 5\n[b]\nloss.unroll = 7\n")
    with pytest.raises(ConfigError, match=r"v.toml: there is another variant 'b'; rename"):
        variants.read(file, before={"b": {}, "c": {}})
    assert len(variants.read(file, before={"b": {"loss.unroll": 7}, "c": {}})) == 2


def test_cart_poles_ingredients_and_regimes_are_one_sweep():
    base = stages.resolved(presets.preset("cart-pole", "paper"))
    given = variants.read(EXAMPLES / "cart-pole-regimes.toml")
    given |= variants.read(EXAMPLES / "cart-pole-ingredients.toml", given)
    configs = variants.all_of(base, given, sweeps.TAKEN)
    assert len(configs) == 1 + 16 + 16 - 3  # Three are in both files.
    assert configs["consistency"].loss.terms == ("consistency",)
    assert configs["latent-distance-1"].terms["distance"]["weight"] == 1.0


def test_cart_poles_regimes_go_from_paper_to_strong():
    paper, strong = (stages.resolved(presets.preset("cart-pole", n)) for n in ("paper", "strong"))
    given = variants.read(EXAMPLES / "cart-pole-regimes.toml")
    configs = variants.all_of(paper, given, sweeps.TAKEN)
    everything = given.pop("everything")
    assert dataclasses.replace(configs["everything"], preset="strong") == strong
    singles = {}
    for changes in given.values():
        singles |= changes
    assert singles == everything  # No variant has a value of its own, and none is missing.


def asked_of_study(monkeypatch, failing=(), checking=False):
    """Replace the study of a variant and what is checked before it, which are tested elsewhere;
    tells whose study was asked for.
    """
    asked = []

    def study(config, out, experiments, closely):
        assert not closely
        asked.append(out.name)
        if out.name in failing:
            raise failing[out.name]
        return stages.StudyRun(out, config)

    def checked(config, out, experiments):
        return RunSubject(Run(out, stages.resolved(config))), []

    if not checking:
        monkeypatch.setattr(studies, "checked", checked)
    monkeypatch.setattr(studies, "study", study)
    monkeypatch.setattr(sweeps, "compare", asked.extend)
    return asked


def test_one_that_fails_leaves_the_others_alone(tiny, tmp_path, monkeypatch, capsys):
    out = tmp_path / "sweep"
    given = {"a": {"loss.unroll": 2}, "b": {"loss.unroll": 4}, "c": {"loss.unroll": 5}}
    failing = {"a": DivergedError("the loss is not finite."), "b": KeyError("bug")}
    asked = asked_of_study(monkeypatch, failing)
    with pytest.raises(JobError, match=r"2 of 4 variants failed: 'a' \(the loss is not finite\)"):
        sweeps.sweep(tiny, given, out)
    assert asked == ["base", "a", "b", "c", out]  # Those that are there are compared.
    told = capsys.readouterr().err
    assert "variant 2 of 4: a" in told
    assert "Traceback" in told  # Of what is no error of the user's.
    assert sweeps.SweepFolder(out).variants() == {"base": {}, **given}
    asked = asked_of_study(monkeypatch)
    # One more, and nothing of the former is forgotten.
    more = {"d": {"loss.unroll": 6}}
    assert list(sweeps.sweep(tiny, more, out)) == ["base", "d"]
    assert list(sweeps.SweepFolder(out).variants()) == ["base", "a", "b", "c", "d"]


def test_a_request_to_stop_stops_all(tiny, tmp_path, monkeypatch):
    asked = asked_of_study(monkeypatch, {"a": Interrupted("stopped at training step 8")})
    given = {"a": {"loss.unroll": 2}, "b": {"loss.unroll": 4}}
    with pytest.raises(Interrupted):
        sweeps.sweep(tiny, given, tmp_path / "sweep")
    assert asked == ["base", "a"]


def test_nothing_begins_if_one_cannot_be_built(tiny, tmp_path, monkeypatch):
    asked = asked_of_study(monkeypatch, checking=True)
    out = tmp_path / "sweep"
    # Its config is sound; what is planned with it is not.
    wrong = {"fine": {"loss.unroll": 2}, "wrong": {"figure7.checkpoints": [9]}}
    with pytest.raises(ConfigError, match=r"^one variant cannot be built.*'wrong': .*checkpoints"):
        sweeps.sweep(tiny, wrong, out)
    large = {"wrong": {"replay.capacity": 1_000_000_000}}
    with pytest.raises(ConfigError, match=r"'wrong': training takes about"):
        sweeps.sweep(tiny, large, out)
    assert not asked
    assert not out.exists()


def test_a_folder_that_holds_something_else_is_left_alone(tiny, tmp_path, monkeypatch):
    asked_of_study(monkeypatch)
    (tmp_path / "letter.txt").write_text("dear")
    given = {"a": {"loss.unroll": 2}}
    with pytest.raises(RunError, match="is no sweep"):
        sweeps.sweep(tiny, given, tmp_path)
    out = tmp_path / "sweep"
    sweeps.sweep(tiny, given, out)
    (out / "a").mkdir()
    stages.StudyRun.create(out / "a", stages.resolved(tiny)).save_config()
    with pytest.raises(ConfigError, match=r"'a': .* holds a run with other settings: loss.unroll"):
        sweeps.sweep(tiny, given, out)
    with sweeps.SweepFolder(out).lock(), pytest.raises(BusyError, match="in use"):
        sweeps.sweep(tiny, {"b": {"loss.unroll": 2}}, out)


@pytest.fixture(scope="module")
def swept(module_tiny, tmp_path_factory):
    """A sweep of two runs, its folder, and how many programs looked at the first and at both."""
    counts, out = [], tmp_path_factory.mktemp("sweeps") / "sweep"

    def study(*given, **more):
        run = by_itself(*given, **more)
        counts.append(len(made))
        return run

    def map_agents(*given, **more):
        made.append(given)
        return compiled(*given, **more)

    made, by_itself, compiled = [], studies.study, lab.map_agents
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "study", study)
        patch.setattr(lab, "map_agents", map_agents)
        runs = sweeps.sweep(module_tiny, {"whole": {"loss.gradient_scale": 1.0}}, out, FIGURES)
    return runs, out, counts


def test_a_sweep_trains_examines_and_compares(swept):
    runs, out, _ = swept
    assert list(runs) == ["base", "whole"]
    assert [run.config.loss.gradient_scale for run in runs.values()] == [0.5, 1.0]
    assert all(run.tables() == ("claims", "figure2", "figure3") for run in runs.values())
    assert (out / "compare.html").exists()
    rows = tables.read(out / "compare" / "differences.parquet").to_pylist()
    assert {row["agents"] for row in rows} == {"2 paired"}
    values = tables.read(out / "compare" / "values.parquet").to_pylist()
    by_run = {
        run: [v["mean"] for v in values if v["run"] == run and v["place"] == 0] for run in runs
    }
    assert by_run["base"] == by_run["whole"]  # Agents of one seed and number begin alike.
    assert {v["mean"] for v in values if v["run"] == "base"} != {
        v["mean"] for v in values if v["run"] == "whole"
    }


def test_variants_that_are_looked_at_alike_share_programs(swept):
    """Whether or not something before has looked so: the second variant makes no further one."""
    _, _, counts = swept
    assert len(counts) == 2
    assert counts[1] == counts[0]


def test_a_sweep_goes_on_where_it_stopped(swept, module_tiny, capsys):
    _, out, _ = swept
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/checkpoints/*")}
    (out / "whole" / "tables" / "figure3.parquet").unlink()
    assert cli_of_compare(out, capsys) == f"{out / 'compare.html'}"
    page = (out / "compare.html").read_text()
    assert "whole has no table of figure3" in page
    sweeps.sweep(module_tiny, {"whole": {"loss.gradient_scale": 1.0}}, out, FIGURES)
    assert (out / "whole" / "tables" / "figure3.parquet").exists()
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/checkpoints/*")} == before
    assert "whole has no table" not in (out / "compare.html").read_text()


def cli_of_compare(out, capsys):
    capsys.readouterr()
    cli.main(["compare", str(out)])
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--vary", "loss.unroll", "5"], "needs --out"),
        (["--out", "x"], "nothing to vary"),
        (["--out", "x", "--vary", "loss.unroll"], "needs values"),
        (["--out", "x", "--vary", "loss.unroll", "5.5"], "'loss.unroll=5.5': loss.unroll is 5.5"),
        (["--out", "x", "--variants", "no.toml"], "no.toml cannot be read"),
    ],
)
def test_mistakes_on_the_command_line(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["sweep", "cart-pole", *flags])
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_help(capsys):
    for command in (["sweep", "cart-pole"], ["compare"]):
        with pytest.raises(SystemExit) as stop:
            cli.main([*command, "--help"])
        assert stop.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--vary", "--variants", "The folder for the runs", "--loss.unroll", "--out DIR"):
        assert flag in text
