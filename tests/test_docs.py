"""The documents are true: names are documented, links lead somewhere, the README's code runs."""

import inspect
import os
import pkgutil
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path

import jax.numpy as jnp
import pytest

import muscope
from muscope import (
    cli,
    comparing,
    doors,
    examination,
    looking,
    plugins,
    pooling,
    stages,
    studies,
    sweeps,
)
from muscope.cli import SUMMARY, new_run
from muscope.config import Config
from muscope.envs import contract
from muscope.envs.registry import options_class
from muscope.experiments import registry
from muscope.learning.terms import registry as terms
from muscope.reporting import columns

ROOT = Path(__file__).parent.parent
COMMANDS = set(re.findall(r"^  muscope (\w+)", SUMMARY, re.MULTILINE))
WIDTH = 120
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])


def code_of(page):
    """The listings and spans of a page's code."""
    listings = re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    outside = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [*listings, *re.findall(r"`([^`]+)`", outside)]


def modules():
    yield muscope
    for module in pkgutil.walk_packages(muscope.__path__, "muscope."):
        if module.name != "muscope.__main__":
            yield import_module(module.name)


@pytest.mark.parametrize("module", list(modules()), ids=lambda m: m.__name__)
def test_every_module_and_public_name_is_documented(module):
    assert module.__doc__, f"{module.__name__} has no docstring"
    for name, thing in vars(module).items():
        ours = getattr(thing, "__module__", "").startswith("muscope")
        if name.startswith("_") or not ours or not callable(thing):
            continue
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, f"{module.__name__}.{name} has no docstring"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_tests_named_in_the_docs_exist():
    tests = "".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py"))
    for page in PAGES:
        for name in re.findall(r"`(test_\w+)`", page.read_text()):
            assert f"def {name}(" in tests, f"{page.name} names {name}"


def test_make_targets_named_in_the_docs_exist():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"^make (\w+)|`make (\w+)", page.read_text(), re.MULTILINE):
            name = "".join(target)
            assert re.search(rf"^{name}:", makefile, re.MULTILINE), f"make {name}"


@pytest.mark.parametrize(
    ("arguments", "extras"),
    [
        (["study"], set()),
        (["study", "ENV=gymnasium:Acrobot-v1"], {"gymnasium"}),
        (["study", "ENV=atari:pong"], {"atari"}),
        (["study", "ENV=breakout", "EXTRAS=torch atari"], {"atari", "torch"}),
        (["install", "EXTRAS=torch gymnasium"], {"gymnasium", "torch"}),
    ],
)
def test_make_installs_the_extras_that_are_needed(arguments, extras, tmp_path):
    make = shutil.which("make") or pytest.skip("there is no make")
    command = [make, "--dry-run", "--directory", ROOT, f"VENV={tmp_path / 'venv'}", *arguments]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"-e '\.\[(\w+)\]'", said)) == extras
    assert (arguments[0] == "install") != ("/muscope study" in said)


def test_commands_named_in_the_docs_exist():
    for page in PAGES:
        for script in re.findall(r"python (benchmarks/\w+\.py)", page.read_text()):
            assert (ROOT / script).exists(), f"{page.name} names {script}"
        code = "\n".join(code_of(page))
        for command in re.findall(r"^muscope (\w+)", code, re.MULTILINE):
            assert command in COMMANDS, f"{page.name} names muscope {command}"


def whole_commands():
    """Commands of the listings, and those in running text that name what they work on."""
    found = set()
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        listings = re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        lines = "\n".join(listings).replace("\\\n", " ").splitlines()
        lines += re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL).split("`")[1::2]
        found |= {" ".join(line.split()) for line in lines if line.startswith("muscope ")}
    commands = [shlex.split(line, comments=True)[1:] for line in sorted(found)]
    unsaid = re.compile(
        r"\b(ENV|AGENT|NAME|FILE|READER|DIR|SETTING|VALUE)\b|--help|(?<!examples/)my_\w+\.py"
    )
    return [c for c in commands if len(c) > 1 and c[1][0] != "-" and not unsaid.search(" ".join(c))]


@pytest.fixture
def without_work(tiny_study, tmp_path, monkeypatch):
    """Commands do nothing but read their arguments and say so; files that pages speak of exist."""
    asked = []

    def stub(name):
        def stand_in(*given, **more):
            asked.append(name)
            return tiny_study

        return stand_in

    for module, names in (
        (stages, ("merge", "job", "evaluate", "report", "film", "tensorboard", "plan", "train")),
        (looking, ("look",)),
        (studies, ("study",)),
        (sweeps, ("sweep",)),
        (comparing, ("compare",)),
        (pooling, ("pool",)),
        (examination, ("examine",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, stub(name))
    monkeypatch.setattr(looking, "look_at_chosen", lambda *given: [stub("look_at_chosen")()])
    monkeypatch.setattr(doors, "find", lambda *given: tiny_study.subject)
    monkeypatch.setattr(new_run, "as_text", str)
    monkeypatch.chdir(ROOT)
    (tmp_path / "my-variants.toml").write_text("[longer]\nloss.unroll = 20\n")
    (code,) = re.findall(r"```python\n([^`]*class Corridor.*?)```", guide(), re.DOTALL)
    (tmp_path / "corridor.py").write_text(code)
    return asked


def guide():
    return (ROOT / "docs" / "your-own.md").read_text()


def test_every_command_of_the_docs_is_understood(without_work, tiny_study, tmp_path):
    commands = whole_commands()
    assert len(commands) > 30
    for command in commands:
        words, former = [], ""
        for word in command:
            if former != "--out":
                word = re.sub(r"^(RUN(\.\.\.)?|runs/\S+)$", str(tiny_study.path), word)
                word = re.sub(r"^(my-variants\.toml|corridor\.py)", rf"{tmp_path}/\1", word)
            words.append(word)
            former = word
        before = len(without_work)
        try:
            cli.main(words)
        except SystemExit as stop:
            pytest.fail(f"muscope {shlex.join(command)} is refused: {stop.code}")
        assert len(without_work) > before or command[0] == "claims"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_lines_outside_tables_wrap(page):
    lines = enumerate(page.read_text().splitlines(), 1)
    long = [number for number, line in lines if len(line) > WIDTH and not line.startswith("|")]
    assert not long, f"{page.name} has lines of more than {WIDTH} characters: {long}"


def test_the_tables_columns_are_those_of_the_schemas():
    written = (ROOT / "docs" / "tables.md").read_text()
    assert columns.COMMAND in written
    assert written == columns.page(), f"docs/tables.md is not current; run: {columns.COMMAND}"


def test_the_page_of_studies_is_what_their_tables_say():
    written = runpy.run_path(str(ROOT / "docs" / "write_studies.py"))
    assert (ROOT / "docs" / "studies.md").read_text() == written["page"]()


def test_pages_of_sweeps_are_what_their_tables_say(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    written = runpy.run_path(str(ROOT / "docs" / "write_sweeps.py"))
    assert written["PAGES"]
    for name in written["PAGES"]:
        assert (ROOT / "docs" / f"{name}.md").read_text() == written["page"](name)


def test_examples_are_as_long_as_the_guide_says():
    guide = (ROOT / "docs" / "your-own.md").read_text()
    rows = re.findall(r"\(\.\./examples/(\w+\.py)\) \| (\d+) \|", guide)
    assert len(rows) == len(list((ROOT / "examples").glob("*.py")))
    for name, lines in rows:
        assert len((ROOT / "examples" / name).read_text().splitlines()) == int(lines), name


def test_settings_named_in_the_docs_exist():
    experiments = [plugins.load(source).settings for source in registry.OWN]
    experiments += [term.settings for term in terms.own().values()]
    sections = [type(section) for section in vars(Config()).values() if is_dataclass(section)]
    known = {cls.section: {f.name for f in fields(cls)} for cls in (*sections, *experiments)}
    options = [options_class(name) for name in ("breakout", "lunar-lander", "gymnasium:Any-v0")]
    known["environment.options"] = {f.name for cls in options for f in fields(cls)} | {"NAME"}
    some = "|".join(sorted(map(re.escape, known), reverse=True))  # The longer name first.
    names = re.compile(rf"(?<![\w/.])({some})\.([\w-]+)(\*?)")
    for page in PAGES:
        for section, name, star in names.findall("\n".join(code_of(page))):
            name = name.replace("-", "_")
            fits = [field for field in known[section] if star and field.startswith(name)]
            assert fits or name in known[section], f"{page.name} names {section}.{name}"


def test_the_readmes_python_runs(tiny, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) <= 10
    # The same lines on a run of seconds: a tiny preset and one of its own checkpoints.
    monkeypatch.setattr(muscope, "preset", lambda environment, name: tiny)
    code = re.sub(r'out="[^"]+"', f'out="{tmp_path / "run"}"', code)
    code = re.sub(r"step=\d+", "step=8", code)
    exec(compile(code, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) >= 3


def test_the_guides_environment_keeps_the_rules():
    (code,) = re.findall(r"```python\n([^`]*class Corridor.*?)```", guide(), re.DOTALL)
    names = {}
    exec(compile(code, "your-own.md", "exec"), names)
    environment = names["Corridor"]()
    contract.check(environment)
    state = names["State"](jnp.int32(8))
    last = environment.step(state, jnp.int32(1))
    assert (float(last.reward), bool(last.terminated)) == (1.0, True)


def test_the_tutorials_listings_run(tiny_study):
    """On a run of seconds; what a listing prints replaces what stands below it."""
    path = tiny_study.path
    page = (ROOT / "docs" / "tutorial.md").read_text()
    page = page.replace("runs/cart-pole-quick-seed0", str(path)).replace("range(30)", "range(3)")
    page = page.replace("move=30", "move=3").replace('"horizon") == 10', '"horizon") == 3')
    filled = runpy.run_path(str(ROOT / "docs" / "fill_in.py"))["filled"](page)
    assert filled.count("```python") == page.count("```python") == filled.count("```text")
    for said in (
        "x, x', angle",
        "visits",
        "predicted",
        "| v - v_hat | =",
        "'average_reward_error'",
    ):
        assert said in filled
    assert "look/agent0-step24-episode0-move3.html" in filled


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("myst_parser")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", ROOT / "docs", tmp_path]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for page in ("index", "tutorial", "reference", "benchmarks"):
        assert (tmp_path / f"{page}.html").exists()
    reference = (tmp_path / "reference.html").read_text()
    for name in muscope.__all__:
        constant = isinstance(getattr(muscope, name), str)
        assert constant or f"muscope.{name}" in reference, name


def test_the_version_is_in_one_place_per_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == muscope.__version__
    assert f"version: {muscope.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {muscope.__version__}" in (ROOT / "CHANGELOG.md").read_text()
