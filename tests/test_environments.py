"""The registry: names, families, users' files, entry points, options."""

import importlib.metadata
import subprocess
import sys

import pytest
import worlds

from muscope import envs, presets
from muscope.config.base import from_dict
from muscope.envs import EnvironmentConfig, registry
from muscope.envs.atari import AtariConfig
from muscope.errors import ConfigError


@pytest.fixture
def entries(monkeypatch):
    """Whatever a test registers is forgotten."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    yield
    registry._made.cache_clear()


@pytest.fixture
def package(monkeypatch):
    """An installed package with an entry point."""
    point = importlib.metadata.EntryPoint("installed-line", "worlds:Line", registry.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    registry._installed.cache_clear()
    yield
    monkeypatch.undo()
    registry._installed.cache_clear()
    registry._made.cache_clear()


def test_names_are_muscopes_own():
    assert envs.names() == ("breakout", "cart-pole", "lunar-lander")


def test_an_environment_is_made_once_per_name_and_options():
    config = EnvironmentConfig("lunar-lander", options={"time_limit": 700, "terrain": "flat"})
    again = EnvironmentConfig("lunar-lander", options={"terrain": "flat", "time_limit": 700})
    assert envs.make(config) is envs.make(again)
    assert envs.make(config) is not envs.make("lunar-lander")
    assert envs.make(config).spec.time_limit == 700


def test_users_own_environments_go_by_file_and_by_module():
    path = worlds.__file__
    by_class = envs.make(EnvironmentConfig(f"{path}:Line", options={"length": 7}))
    assert by_class.length == 7
    assert envs.make(f"{path}:short_line").length == 2
    assert envs.make("worlds:LINE") is worlds.LINE
    assert registry.options_class("worlds:Line") is worlds.LineOptions
    assert registry.options_class("worlds:short_line") is None
    assert registry.presets_of("worlds:Line") == worlds.Line.presets
    assert registry.presets_of("cart-pole") == {}


def test_installed_packages_environments_are_known_by_their_names(package):
    assert "installed-line" in envs.names()
    assert envs.make(EnvironmentConfig("installed-line", options={"length": 4})).length == 4
    with pytest.raises(ConfigError, match="already registered"):
        envs.register("installed-line", worlds.Line)


def test_what_is_registered_is_known(entries):
    envs.register("short-line", worlds.short_line)
    envs.register("later", "worlds:Line")
    envs.register("lines:", lambda name, options: worlds.Line(options), worlds.LineOptions)
    assert {"short-line", "later"} < set(envs.names())
    assert "lines:" not in envs.names()
    assert envs.make("short-line").length == 2
    assert envs.make("later").length == 5
    assert envs.make(EnvironmentConfig("lines:a", options={"length": 9})).length == 9
    with pytest.raises(ConfigError, match="already registered"):
        envs.register("later", worlds.Line)


def test_options_belong_to_their_environment():
    assert registry.options_class("breakout") is registry.options_class("atari:pong") is AtariConfig
    assert registry.options_class("cart-pole") is None
    for name, options, message in (
        ("cart-pole", {"a": 1}, "'cart-pole' takes no options; remove environment.options"),
        ("worlds:LINE", {"a": 1}, "takes no options"),
        ("worlds:Line", {"lenth": 1}, r"'environment.options.lenth'. Did you mean 'length'\?"),
        ("worlds:Line", {"length": 0}, "environment.options.length is 0"),
        ("breakout", {"host": {"workers": -1}}, "environment.options.host.workers is -1"),
        ("lunar-lander", {"terrain": "hilly"}, "environment.options.terrain is 'hilly'"),
    ):
        with pytest.raises(ConfigError, match=message):
            envs.make(EnvironmentConfig(name, options=options))


def test_options_are_plain_json():
    config = EnvironmentConfig("breakout", options={"sizes": (1, 2)})
    assert config.options == {"sizes": [1, 2]}
    with pytest.raises(ConfigError, match=r"environment.options must be plain JSON"):
        EnvironmentConfig("breakout", options={"sizes": {1, 2}})
    with pytest.raises(ConfigError, match=r"environment.options is \[1\]"):
        from_dict({"options": [1]}, EnvironmentConfig)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cartpole", r"unknown environment 'cartpole'. Did you mean 'cart-pole'\?"),
        ("atari", r"Did you mean 'atari:GAME'\?"),
        ("zzz", "Known: atari:GAME, breakout, .*gymnasium:ID.*my_world.py:NAME"),
        ("no_such_file.py:World", "there is no file no_such_file.py"),
        ("no_such_module:World", "there is no module 'no_such_module'"),
        ("my_world.py", "'my_world.py' is a file; name the class in it too: my_world.py:MyWorld"),
        ("worlds:Lime", r"worlds has no 'Lime'. Did you mean 'Line'\?"),
        ("worlds:broken", "making the environment 'worlds:broken' failed: ValueError: no such"),
        ("worlds:Half", "'worlds:Half' gives a Half, which has no observe"),
    ],
)
def test_names_that_lead_nowhere_get_one_line(name, message):
    with pytest.raises(ConfigError, match=message) as caught:
        envs.make(name)
    assert "\n" not in str(caught.value)


def test_a_spec_that_is_wrong_gets_one_line_before_settings_are_chosen(tmp_path):
    file = tmp_path / "flat_world.py"
    file.write_text(
        "from muscope.envs import Spec\n"
        "class World:\n"
        "    spec = Spec('flat', 2, 25, 10)\n"
        "    def reset(self, key): ...\n"
        "    def step(self, state, action): ...\n"
        "    def observe(self, state): ...\n"
    )
    with pytest.raises(ConfigError, match=r"observation_shape is 25; it must be a tuple of sizes"):
        presets.preset(f"{file}:World", "quick")


def test_making_cart_pole_imports_no_other_environment():
    """In a process of its own; the names are looked up without importing anything either."""
    program = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import types; package = types.ModuleType('muscope')\n"
        f"package.__path__ = {list(__import__('muscope').__path__)!r}\n"
        "sys.modules['muscope'] = package\n"
        "from muscope import envs; import muscope.envs.workers, muscope.envs.emulator\n"
        "assert 'jax' not in sys.modules\n"
        "envs.names(); envs.make('cart-pole')\n"
        "print([n for n in sys.modules if 'ale_py' in n or 'gymnasium' in n or 'lander' in n])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_what_nobody_has_tuned_is_looked_at_where_training_ends():
    untuned = presets.preset("worlds:short_line").experiments
    looks = ("figure6", "figure7", "decisions")
    assert [tuple(untuned[name]["checkpoints"]) for name in looks] == [(), (), ()]
    tuned = presets.preset("cart-pole").experiments
    assert [tuple(tuned[name]["checkpoints"]) for name in looks] == [
        (2_000,),
        *[(2_000, 10_000)] * 2,
    ]
