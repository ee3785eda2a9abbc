"""Networks of users: what is accepted, and one line for what cannot be trained."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest

import muscope
from muscope import cli
from muscope.agent import networks
from muscope.config import NetworkConfig
from muscope.envs import CartPole
from muscope.errors import ConfigError
from muscope.storage import checkpoint

NET = """
import equinox as eqx, jax, jax.numpy as jnp
from muscope.agent import MuZero, Support

class Dynamics(eqx.Module):
    net: eqx.nn.MLP
    more: object
    def __call__(self, z, action):
        x = self.net(jnp.concatenate([z, jax.nn.one_hot(action, 2)]))
        return LATENT, x[8:REWARD]

class Predictor(eqx.Module):
    net: eqx.nn.MLP
    share: float
    def __call__(self, z):
        x = self.net(z)
        return x[:POLICY], self.share * x[2:VALUE]

def mlp(config, spec, key):
    k = jax.random.split(key, 3)
    bins, rewards = config.value_bins, config.reward_bins
    def net(i, o, key):
        return eqx.nn.MLP(i, o, 8, 1, activation=lambda x: jax.nn.relu(x), key=key)
    return MuZero(
        net(4, 8, k[0]), Dynamics(net(10, 8 + rewards, k[1]), MORE),
        Predictor(net(8, 2 + bins, k[2]), 0.5),
        Support(config.value_limit, bins), Support(config.reward_limit, rewards),
    )
"""
PLAIN = {"LATENT": "x[:8]", "REWARD": "", "POLICY": "2", "VALUE": "", "MORE": "jnp.zeros(3)"}


def written(folder, name="mlp", **changes):
    text = NET
    for word, code in {**changes, **{k: v for k, v in PLAIN.items() if k not in changes}}.items():
        text = text.replace(word, code)
    # A name of its own, because modules are imported once.
    file = folder / f"net_{abs(hash(text))}.py"
    file.write_text(text)
    return f"{file}:{name}"


def with_kind(config, kind):
    return dataclasses.replace(config, network=dataclasses.replace(config.network, kind=kind))


def test_a_network_of_mlps_is_trained_resumed_and_read_again(tiny, tmp_path, monkeypatch):
    """Functions and numbers among its leaves stand still; everything else is trained."""
    config = with_kind(tiny, written(tmp_path))
    run = muscope.train(config, tmp_path / "run")
    first, last = (run.agent(1, step) for step in (0, 24))
    predictor = eqx.combine(
        last.network.prediction.arrays,
        jax.tree.unflatten(last.network.prediction.structure, last.network.prediction.others),
    )
    assert predictor.share == 0.5
    assert predictor.net.activation(-1.0) == 0.0
    before, after = (jax.tree.leaves(a.network.dynamics) for a in (first, last))
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert last.search(np.zeros(4)).visits.sum() == 4
    header = checkpoint.read_header(run.checkpoint_path(24), checkpoint.AGENTS_FORMAT)
    run.checkpoint_path(24).unlink()
    muscope.train(config, tmp_path / "run")
    again = checkpoint.read_header(run.checkpoint_path(24), checkpoint.AGENTS_FORMAT)
    assert again["digest"] == header["digest"]
    muscope.evaluate(run, ["figure5"], {"evaluate": {"checkpoints": (0, 24)}})
    assert run.table_path("figure5").exists()


def test_a_network_of_arrays_alone_is_left_as_it_is():
    agent = networks.build(NetworkConfig(), CartPole().spec, jax.random.key(0))
    assert isinstance(agent.prediction, networks.Predictor)


MISTAKES = [
    ({"VALUE": "-1"}, "prediction's value logits are float32["),
    ({"POLICY": "1"}, "prediction's policy logits are float32[1]; they must be 2 real numbers"),
    ({"REWARD": "-2"}, "dynamics' reward logits are float32["),
    ({"LATENT": "x[:7]"}, "form that it takes: float32[8], not float32[7]"),
    ({"LATENT": "(x[:8],)"}, "float32[8], not float32[8] in another structure"),
    ({"LATENT": "x[:8] @ x[:7]"}, "its dynamics fails on float32[8] and int32[]: TypeError"),
    ({"MORE": "jnp.arange(3)"}, "leaf .dynamics.more is int32, which cannot be trained"),
    ({"MORE": "[{1}]"}, "leaf .more[0] is a set"),
    ({"MORE": "1 / 0"}, "cannot be built: ZeroDivisionError: division by zero (/"),
    ({"def mlp(config, spec, key)": "def mlp(config, spec)"}, "takes 2 positional arguments but 3"),
    ({"Predictor(net(8": "Predictor(net(9"}, "its prediction fails on float32[8]"),
    ({"return x[:POLICY], self": "return self"}, "its prediction must return (policy logits, val"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_a_wrong_network_gets_one_line_before_anything_is_written(
    changes, message, tmp_path, capsys
):
    flags = ["--network.kind", written(tmp_path, **changes), "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "cart-pole", *flags])
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("muscope: ")
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_key_among_the_leaves_is_named(tmp_path, tiny):
    kind = written(tmp_path, MORE="key")
    with pytest.raises(ConfigError, match=r"leaf .dynamics.more is key<fry>"):
        muscope.train(with_kind(tiny, kind), tmp_path / "run")
