"""Auxiliary losses: closed forms, where their gradients go, and what stays without them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file
from test_pixels import directly
from test_targets import filled

import muscope
from muscope.agent import build, standardise
from muscope.cli import new_run
from muscope.config import LossConfig, NetworkConfig, from_dict, to_dict
from muscope.envs import CartPole
from muscope.envs.base import Spec
from muscope.errors import ConfigError
from muscope.forecast import parts
from muscope.learning import replay
from muscope.learning.loss import loss
from muscope.learning.targets import Targets
from muscope.learning.terms import Term, TermSettings, consistency, distance, reconstruction
from muscope.learning.terms.base import Chosen
from muscope.learning.terms.registry import OWN, own
from muscope.stages import resolved
from muscope.storage import checkpoint, metrics
from muscope.training import memory
from muscope.training.agent import AgentProgram, Trained, _Logs
from muscope.training.population import Population

K = 3
SPEC = Spec("any", 2, (4,), 100)
NETWORK = NetworkConfig(width=8, latent=6, input_scale=(0.5, 2.0, 1.0, 4.0))
CONFIG = LossConfig(unroll=K, n_step=2, unroll_weight=1.5, gradient_scale=0.5)
WEIGHT = np.array([1.0, 0.5, 0.5, 0.5])
"""Of the root, and unroll_weight / K."""
THERE = np.array([1.0, 1.0, 1.0, 0.0])
"""The episode ends with the third transition."""
PIXELS = Spec("screen", 3, (24, 24, 2), 10)
RESNET = NetworkConfig(kind="resnet", width=8, channels=4, head_channels=2)


def moved_from_its_start(tree, seed):
    """Parameters with noise on them, so that nothing is zero by design."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(
        structure,
        [x + 0.1 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)],
    )


def an_agent(network=NETWORK, spec=SPEC):
    return moved_from_its_start(build(network, spec, jax.random.key(0)), 1)


def some_targets(spec=SPEC, seed=0):
    rng = np.random.default_rng(seed)
    shape = spec.observation_shape
    return Targets(
        observation=jnp.asarray(rng.uniform(size=shape), jnp.float32),
        actions=jnp.asarray(rng.integers(spec.num_actions, size=K), jnp.int32),
        reward=jnp.zeros(K),
        reward_mask=jnp.ones(K),
        value=jnp.zeros(K + 1),
        value_mask=jnp.ones(K + 1),
        policy=jnp.full((K + 1, spec.num_actions), 1 / spec.num_actions),
        policy_mask=jnp.asarray(THERE, jnp.float32),
        later=jnp.asarray(rng.uniform(size=(K, *shape)), jnp.float32),
    )


def chosen(name, **settings):
    return Chosen(own()[name], own()[name].settings(**settings), name)


def of_term(agent, parameters, targets, term, config=CONFIG):
    """The term's own loss, through the whole loss of a position."""
    return loss(agent, targets, config, [term], {term.name: parameters})[1].added[term.name]


def unrolled(agent, targets):
    """z^0..z^K, step by step."""
    z = [agent.represent(targets.observation)]
    for action in targets.actions:
        z.append(agent.dynamics(z[-1], action)[0])
    return z


# Closed forms.


def test_the_distance_is_its_closed_form():
    agent, targets, term = an_agent(), some_targets(), chosen("distance")
    z = np.array(unrolled(agent, targets))[1:]
    there = np.array([agent.represent(o) for o in targets.later])
    expected = np.sum((WEIGHT * THERE)[1:] * np.sum((z - there) ** 2, axis=1))
    np.testing.assert_allclose(of_term(agent, None, targets, term), expected, rtol=1e-5)


def _linear(layer, x):
    return x @ np.asarray(layer.weight) + np.asarray(layer.bias)


def _normed(norm, x):
    unit = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return unit * np.asarray(norm.scale) + np.asarray(norm.shift)


def _projected(p, z):
    for i in (0, 1):
        z = np.maximum(_normed(p.norms[i], _linear(p.layers[i], z)), 0)
    return _normed(p.norms[2], _linear(p.layers[2], z))


def test_consistency_is_its_closed_form():
    """EfficientZero's: minus the cosine of q(p(z^k)) and p(h(o_{t+k})), by NumPy."""
    agent, targets, term = an_agent(), some_targets(), chosen("consistency", projector=10)
    networks = term.initial(agent, SPEC, jax.random.key(3))
    networks = moved_from_its_start(networks, 4)
    assert networks.predict.hidden.weight.shape == (10, 5)
    z = np.array(unrolled(agent, targets))[1:]
    there = np.array([agent.represent(o) for o in targets.later])
    cosines = []
    for mine, theirs in zip(z, there, strict=True):
        q = networks.predict
        hidden = np.maximum(
            _normed(q.norm, _linear(q.hidden, _projected(networks.project, mine))), 0
        )
        x, y = _linear(q.out, hidden), _projected(networks.project, theirs)
        cosines.append(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
    expected = -np.sum((WEIGHT * THERE)[1:] * cosines)
    np.testing.assert_allclose(of_term(agent, networks, targets, term), expected, rtol=1e-4)


@pytest.mark.parametrize(("spec", "units"), [(SPEC, (64, 32)), (PIXELS, (1024, 512))])
def test_consistency_has_efficientzeros_sizes_for_images_and_smaller_ones_for_vectors(spec, units):
    network = RESNET if spec is PIXELS else NETWORK
    form = jax.eval_shape(
        lambda key: chosen("consistency").initial(build(network, spec, key), spec, key),
        jax.random.key(0),
    )
    sizes = [layer.weight.shape for layer in form.project.layers]
    inputs = 6 * 6 * 4 if spec is PIXELS else 6
    assert sizes == [(inputs, units[0]), (units[0], units[0]), (units[0], units[0])]
    assert form.predict.hidden.weight.shape == units
    assert form.predict.out.weight.shape == units[::-1]
    assert own()["consistency"].settings().weight == 2.0


def test_the_cosine_of_nothing_is_zero_and_has_a_gradient():
    zero, one = jnp.zeros(3), jnp.array([1.0, 2.0, 2.0])
    assert float(consistency.cosine(zero, one)) == 0.0
    assert np.isfinite(jax.grad(consistency.cosine)(zero, one)).all()
    np.testing.assert_allclose(consistency.cosine(3 * one, one), 1.0, rtol=1e-6)


def test_a_vectors_reconstruction_is_its_closed_form():
    """Root included; against what the network sees, its components scaled."""
    agent, targets, term = an_agent(), some_targets(), chosen("reconstruction", width=5)
    decoder = moved_from_its_start(term.initial(agent, SPEC, jax.random.key(3)), 4)
    seen = np.array([targets.observation, *targets.later]) * NETWORK.input_scale
    decoded = [
        _linear(decoder.out, np.maximum(_linear(decoder.hidden, np.asarray(z)), 0))
        for z in unrolled(agent, targets)
    ]
    expected = np.sum(WEIGHT * THERE * np.mean((np.array(decoded) - seen) ** 2, axis=1))
    np.testing.assert_allclose(of_term(agent, decoder, targets, term), expected, rtol=1e-5)


def test_an_images_reconstruction_is_its_closed_form():
    """Convolutions and doublings by NumPy; against standardised pixels."""
    agent, targets = an_agent(RESNET, PIXELS), some_targets(PIXELS)
    view = jnp.full(PIXELS.observation_shape, 0.4), jnp.full(PIXELS.observation_shape, 0.25)
    agent = standardise.measured(agent, *view)
    term = chosen("reconstruction", width=16)
    decoder = moved_from_its_start(term.initial(agent, PIXELS, jax.random.key(3)), 4)
    channels = [c.kernel.shape[2:] for c in decoder.convolutions]
    assert channels == [(4, 16), (16, 8)]

    def decoded(x):
        for convolution in decoder.convolutions:
            x = directly(x, np.asarray(convolution.kernel), 1)
            x = np.maximum(_normed(convolution.norm, x), 0).repeat(2, axis=0).repeat(2, axis=1)
        return directly(x, np.asarray(decoder.kernel), 1) + np.asarray(decoder.bias)

    seen = (np.array([targets.observation, *targets.later]) - 0.4) / 0.25
    pictures = np.array([decoded(np.asarray(z)) for z in unrolled(agent, targets)])
    expected = np.sum(WEIGHT * THERE * np.mean((pictures - seen) ** 2, axis=(1, 2, 3)))
    given = jax.jit(lambda a, d: of_term(a, d, targets, term))(agent, decoder)
    np.testing.assert_allclose(given, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("latent", "observation", "times"),
    [
        ((6, 6, 4), (96, 96, 12), 4),
        ((6, 6, 4), (48, 48, 1), 3),
        ((6, 6, 4), (50, 50, 1), 0),
        ((6, 6, 4), (84, 84, 1), 4),
        ((4, 3, 4), (210, 160, 3), 6),
        ((1, 4, 4), (16, 100, 3), 5),
        ((4, 1, 4), (100, 16, 3), 5),
        ((6, 3, 4), (48, 48, 1), 0),
        ((6, 6, 4), (48, 24, 1), 0),
        ((8,), (48, 48, 1), 0),
        ((6, 6, 4), (8,), 0),
        ((6, 6, 4), (6, 6, 4), 0),
    ],
)
def test_a_decoder_of_images_is_used_where_planes_double_into_them(latent, observation, times):
    given = reconstruction.doublings(jnp.zeros(latent), Spec("any", 2, observation, 10))
    assert given == times


# Gradients.


def some_parameters(name, agent, spec=SPEC):
    made = chosen(name).initial(agent, spec, jax.random.key(3))
    return moved_from_its_start(made, 4)


def largest(tree):
    return {
        jax.tree_util.keystr(path): float(jnp.abs(leaf).max())
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


@pytest.mark.parametrize("name", sorted(own()))
def test_gradients_reach_the_model_and_the_terms_own_parameters_and_nothing_else(name):
    agent, targets = an_agent(), some_targets()
    parameters, term = some_parameters(name, agent), chosen(name)
    of_agent, of_own = jax.grad(lambda a, p: of_term(a, p, targets, term), argnums=(0, 1))(
        agent, parameters
    )
    for place, size in largest(of_agent).items():
        model = ".prediction" not in place and ".reward" not in place
        assert (size > 0) == model, place
    assert all(size > 0 for size in largest(of_own).values())


@pytest.mark.parametrize("name", ["consistency", "distance"])
def test_the_observations_side_stands_still(name):
    """The gradient is that of a target which is a number, and is none of later observations."""
    agent, targets = an_agent(), some_targets()
    parameters, term = some_parameters(name, agent), chosen(name)
    by_later = jax.grad(lambda o: of_term(agent, parameters, targets._replace(later=o), term))
    assert float(jnp.abs(by_later(targets.later)).max()) == 0.0
    there = [agent.represent(o) for o in targets.later]

    def with_numbers(agent):
        total = 0.0
        z = agent.represent(targets.observation)
        for k in range(K):
            z = agent.dynamics(z, targets.actions[k])[0]
            kept = WEIGHT[k + 1] * THERE[k + 1]
            if name == "distance":
                total += kept * jnp.sum((z - there[k]) ** 2)
            else:
                wanted = parameters.project(there[k])
                foretold = parameters.predict(parameters.project(z))
                total -= kept * consistency.cosine(foretold, wanted)
        return total

    plain = dataclasses.replace(CONFIG, gradient_scale=1.0)
    ours = jax.grad(lambda a: of_term(a, parameters, targets, term, plain))(agent)
    expected = jax.grad(with_numbers)(agent)
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-3, atol=1e-6)


def test_the_distance_may_draw_both_sides():
    agent, targets, term = an_agent(), some_targets(), chosen("distance", both_ways=True)
    by_later = jax.grad(lambda o: of_term(agent, None, targets._replace(later=o), term))
    sizes = np.abs(by_later(targets.later)).max(axis=1)
    np.testing.assert_array_equal(sizes > 0, THERE[1:] > 0)


def test_a_later_positions_gradient_is_scaled_on_its_way_through_the_dynamics():
    """Only z^2 is asked: the gradient reaches h through one halving, as MuZero's own do."""
    agent, term = an_agent(), chosen("distance")
    targets = some_targets()._replace(policy_mask=jnp.array([0.0, 0, 1, 0]))
    halved, plain = (
        jax.grad(
            lambda a, scale=scale: of_term(
                a, None, targets, term, dataclasses.replace(CONFIG, gradient_scale=scale)
            )
        )(agent)
        for scale in (0.5, 1.0)
    )
    for x, y in zip(
        jax.tree.leaves(halved.representation), jax.tree.leaves(plain.representation), strict=True
    ):
        np.testing.assert_allclose(x, 0.5 * np.asarray(y), rtol=1e-4, atol=1e-7)


def test_terms_come_on_top_with_their_weights():
    agent, targets = an_agent(), some_targets()
    terms = [chosen("distance", weight=0.3), chosen("reconstruction", weight=2.0)]
    own_parameters = {term.name: some_parameters(term.name, agent) for term in terms}
    total, told = loss(agent, targets, CONFIG, terms, own_parameters)
    plain, without = loss(agent, targets, CONFIG)
    assert without.added == {}
    assert set(told.added) == {"distance", "reconstruction"}
    expected = plain + 0.3 * told.added["distance"] + 2.0 * told.added["reconstruction"]
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    np.testing.assert_array_equal(told.policy, without.policy)
    np.testing.assert_array_equal(told.value_error, without.value_error)


# Past the end, and what is gathered.


@pytest.mark.parametrize("name", sorted(own()))
def test_what_lies_past_the_end_does_not_count(name):
    agent, targets = an_agent(), some_targets()
    parameters, term = some_parameters(name, agent), chosen(name)
    before = of_term(agent, parameters, targets, term)
    for k in range(K):
        other = targets._replace(later=targets.later.at[k].add(0.5))
        changed = float(of_term(agent, parameters, other, term)) != float(before)
        assert changed == (THERE[k + 1] > 0), k


def test_a_row_ahead_is_of_the_same_lane_and_the_ring_has_no_end():
    ring = filled([1, 2, 3, 4, 5], lanes=3)
    for time in range(5):
        for lane in range(3):
            index = replay.ahead(ring, jnp.int32(time * 3 + lane), jnp.arange(6))
            np.testing.assert_array_equal(index, (time + np.arange(6)) % 5 * 3 + lane)


def with_terms(config, *names, **settings):
    return dataclasses.replace(
        config, loss=dataclasses.replace(config.loss, terms=names), terms=settings
    )


def trained_a_little(config, calls=6):
    """A population after so many calls, and its program."""
    population = Population(config)
    state, rounds = population.initial(), 0
    for _ in range(calls):
        state, told = population.advance(state, rounds)
        rounds += config.train.call_rounds
    assert population.training_step(rounds) > 0
    return population, jax.device_get(state), jax.device_get(told)


@pytest.fixture(scope="module")
def all_terms(module_tiny):
    """All of our own at once."""
    return trained_a_little(with_terms(module_tiny, *sorted(own())))


def test_later_observations_are_those_that_the_world_comes_to(all_terms):
    """Every row's, against Cart Pole's own steps from o_t along the row's actions."""
    population, state, _ = all_terms
    program, world = population.program, CartPole()
    one = jax.tree.map(lambda x: jnp.asarray(x)[0], state.replay)
    rows = jnp.arange(int(one.written) * 2)
    batch = jax.jit(program.batch)(one, rows)
    assert batch.later.shape == (len(rows), K, 4)
    start = jax.eval_shape(world.reset, jax.random.key(0))
    checked = 0
    for i in range(len(rows)):
        place = type(start)(batch.observation[i], jnp.array(False))
        for k in range(K):
            moved = world.step(place, batch.actions[i, k])
            place = moved.state
            if batch.policy_mask[i, k + 1]:
                assert not moved.terminated
                np.testing.assert_allclose(
                    batch.later[i, k], world.observe(place), rtol=1e-4, atol=1e-6
                )
                checked += 1
    assert checked > len(rows)
    assert (np.asarray(batch.policy_mask)[:, 1:] == 0).any()


def test_nothing_later_is_gathered_unless_a_term_asks(tiny):
    for names, later in (((), None), (("reconstruction",), (1, K, 4))):
        program = AgentProgram(with_terms(tiny, *names))
        memory_of = jax.eval_shape(program.initial, jax.random.key(0)).replay
        made = jax.eval_shape(program.batch, memory_of, jax.ShapeDtypeStruct((1,), jnp.int32))
        assert (made.later and made.later.shape) == later


# Without a term, everything is as it was before there were any.


def former_update(self, trained, optimiser_state, memory, step, key):
    """An update as it was: the agent's alone."""
    config, agent = self.config, trained.agent
    beta0 = config.replay.importance_exponent
    beta = beta0 + (1.0 - beta0) * step / config.train.steps
    index, importance = replay.draw(key, memory, config.train.batch_size, beta)
    batch = self.batch(memory, index)

    def batch_loss(agent, batch, importance):
        losses, terms = jax.vmap(lambda t: loss(agent, t, config.loss))(batch)
        return jnp.mean(importance * losses), terms

    grads, terms = jax.grad(batch_loss, has_aux=True)(agent, batch, importance)
    updates, optimiser_state = self.optimiser.update(grads, optimiser_state, agent)
    agent = optax.apply_updates(agent, updates)
    priority = terms.value_error + config.replay.priority_floor
    memory = replay.reprioritise(memory, index, priority, config.replay.priority_exponent)
    means = (jnp.mean(terms.policy), jnp.mean(terms.value), jnp.mean(terms.reward))
    return Trained(agent, {}), optimiser_state, memory, _Logs(*means, optax.tree.norm(grads), {})


def off(config):
    """Every term of ours, with a weight of 0."""
    return with_terms(config, *sorted(own()), **{name: {"weight": 0.0} for name in own()})


def traced(config):
    program = AgentProgram(config)
    state = jax.eval_shape(program.initial, jax.random.key(0))
    return str(jax.make_jaxpr(lambda s: program.run(s, jnp.int32(0), 4))(state))


def test_without_weights_the_program_is_that_of_before(tiny, monkeypatch):
    """Every operation of a call, in order: with none, with weights of 0, and as it was."""
    now, zero, on = traced(tiny), traced(off(tiny)), traced(with_terms(tiny, "distance"))
    monkeypatch.setattr(AgentProgram, "update", former_update)
    assert now == traced(tiny) == zero
    assert on != now


def test_without_weights_a_training_has_the_bits_of_before(tiny, monkeypatch):
    _, now, _ = trained_a_little(tiny)
    _, zero, told = trained_a_little(off(tiny))
    assert told.terms == {}
    monkeypatch.setattr(AgentProgram, "update", former_update)
    _, before, _ = trained_a_little(tiny)
    assert jax.tree.structure(now) == jax.tree.structure(zero) == jax.tree.structure(before)
    for leaves in zip(*map(jax.tree.leaves, (now, zero, before)), strict=True):
        if jax.dtypes.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
            leaves = [jax.random.key_data(x) for x in leaves]
        for x in leaves[1:]:
            np.testing.assert_array_equal(leaves[0], x)


def test_without_a_term_a_saved_state_has_the_form_of_before(tiny):
    program = AgentProgram(tiny)
    state = jax.eval_shape(program.initial, jax.random.key(0))
    assert jax.tree.leaves(state.terms) == []
    form = jax.eval_shape(program.optimiser.init, state.agent)
    assert jax.tree.structure(state.optimiser) == jax.tree.structure(form)
    assert not any("terms" in name for name in checkpoint._named_leaves(state))


# Training with them.


def test_all_terms_are_trained_together(all_terms):
    population, state, told = all_terms
    begin = jax.device_get(population.initial())
    assert set(told.terms) == set(own())
    assert all(np.isfinite(x).all() and (x != 0).all() for x in told.terms.values())
    for name in ("consistency", "reconstruction"):
        moved = jax.tree.map(
            lambda a, b: float(np.abs(a - b).max()), state.terms[name], begin.terms[name]
        )
        assert all(change > 0 for change in jax.tree.leaves(moved)), name
    leaves = jax.tree.leaves(begin.terms)
    assert all(len(x) == 2 for x in leaves)
    drawn = [x for x in leaves if np.ptp(x) > 0]
    assert all((x[0] != x[1]).any() for x in drawn)


def test_a_run_with_terms_is_logged_resumed_and_opened(tiny, tmp_path):
    """The log has each under its name, a saved state has their parameters, a checkpoint has not."""
    config = with_terms(tiny, "consistency", consistency={"projector": 6})
    run = muscope.train(config, tmp_path / "run")
    kept = json.loads((run.path / "config.json").read_text())
    assert kept["loss"]["terms"] == ["consistency"]
    assert kept["terms"] == {"consistency": {"weight": 2.0, "projector": 6, "predictor": 0}}
    for entry in metrics.read(run.metrics_path).entries:
        assert np.shape(entry["terms"]["consistency"]) == (2,)
        assert all(-1 <= x / 8 <= 1 for x in entry["terms"]["consistency"])
    before = load_file(run.checkpoint_path(24))
    plain = muscope.train(tiny, tmp_path / "plain")
    assert set(before) == set(load_file(plain.checkpoint_path(24)))
    opened = muscope.open_run(run.path)
    assert opened.agent(1).search(np.zeros(4)).visits.sum() == 4

    # Interrupted after a state was saved.
    run.checkpoint_path(24).unlink()
    population = Population(opened.config)
    state, rounds = population.initial(), 0
    while population.training_step(rounds) < 16:
        state, _ = population.advance(state, rounds)
        rounds += opened.config.train.call_rounds
    training = muscope.stages.runner._Training(opened, opened.blocks()[0], population)
    training.state, training.rounds = state, rounds
    training._write_state(opened.state_path)
    kept = load_file(opened.state_path)
    assert any(name.startswith("terms/consistency/project") for name in kept)
    muscope.train(config, run.path)
    after = load_file(run.checkpoint_path(24))
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_what_terms_cost_is_counted(tiny):
    """In memory, and in what a GPU's seconds are estimated from; an update is tried with them."""
    config = with_terms(tiny, "consistency", "reconstruction")
    assert parts.of_terms(tiny) == parts.Sized(0.0, 0.0, 0, 0)
    more = parts.of_terms(config)
    assert more.kernels > 5
    # Projector and predictor of 64 and 32 units on both sides of K positions, and more.
    assert more.operations > 2 * K * (2 * (8 * 64 + 2 * 64 * 64) + 2 * 64 * 32)
    kept, plain = (
        sum(p.size for p in memory.of_one_agent(AgentProgram(c))[0]) for c in (config, tiny)
    )
    own_parameters = jax.eval_shape(AgentProgram(config).initial, jax.random.key(0)).terms
    size = sum(4 * x.size for x in jax.tree.leaves(own_parameters))
    assert kept - plain == 3 * size  # With the optimiser's two moments.
    form = parts.form(config, CartPole())
    jax.eval_shape(parts.updating(config), jax.random.key(0), form, jnp.int32(1))


# Names and settings.


def test_settings_are_written_out_and_read_again(tiny):
    config = resolved(with_terms(tiny, "distance", distance={"both_ways": True}))
    assert config.terms == {"distance": {"weight": 0.1, "both_ways": True}}
    assert resolved(from_dict(to_dict(config))) == config


def test_flags_name_terms_and_their_settings():
    flags = ["--loss.terms", "consistency", "distance", "--terms.consistency.weight", "0.5"]
    config, _, _ = new_run._new_run("train", ["cart-pole", *flags], new_run._Train)
    assert config.loss.terms == ("consistency", "distance")
    assert config.terms == {"consistency": {"weight": 0.5}}
    assert resolved(config).terms["distance"] == {"weight": 0.1, "both_ways": False}


USERS = """
from dataclasses import dataclass
import jax.numpy as jnp
from muscope.learning.terms import Term, TermSettings

@dataclass(frozen=True)
class Own(TermSettings):
    section = "terms.mine"

def initial(settings, agent, spec, key):
    return INITIAL

def loss(settings, parameters, unrolled):
    return LOSS

TERM = Term(NAME, loss, SETTINGS, initial)
"""
PATCHED = "Own, initial)\nobject.__setattr__(TERM, 'settings', dict)"  # Unseen by type checks.
PLAIN = {"INITIAL": "jnp.ones(2)", "LOSS": "parameters.sum()", "NAME": '"mine"', "SETTINGS": "Own"}


def users(folder, **changes):
    text = USERS
    for word, code in {**changes, **{k: v for k, v in PLAIN.items() if k not in changes}}.items():
        text = text.replace(word, code)
    file = folder / f"loss_{abs(hash(text))}.py"
    file.write_text(text)
    return f"{file}:TERM"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"LOSS": "1 / 0"}, r"'mine': its loss fails: ZeroDivisionError: .* \(.*loss_\d+.py:14\)"),
        ({"LOSS": "jnp.ones(3)"}, r"'mine': its loss must give one real number, not float32\[3\]"),
        ({"LOSS": "unrolled.weight[0] > 0"}, r"must give one real number, not bool\[\]"),
        ({"INITIAL": "1 / 0"}, r"'mine': its initial fails: ZeroDivisionError: "),
        ({"INITIAL": "{'n': jnp.arange(3)}"}, r"its parameter \['n'\] is int32, which cannot be"),
        ({"INITIAL": "[jnp.sin]"}, r"its parameter \[0\] is .*, which cannot be trained"),
        ({"SETTINGS, initial)": PATCHED}, r"its settings must be a class derived from"),
        ({"NAME": '"yours"'}, r"its settings' section must be 'terms.yours'"),
        ({"NAME": '"distance"'}, r"muscope has a term 'distance'; choose another name"),
        ({"NAME": '"Mine"'}, r"a term cannot be called 'Mine'"),
        ({"Term(NAME, loss, SETTINGS, initial)": "3"}, r"is a int; it must be a muscope.learning"),
        ({"INITIAL": "None"}, r"its loss fails: AttributeError"),
    ],
)
def test_a_users_term_that_breaks_its_contract_gets_one_line(changes, message, tiny, tmp_path):
    config = with_terms(tiny, users(tmp_path, **changes))
    with pytest.raises(ConfigError, match=message) as told:
        muscope.train(config, tmp_path / "run")
    assert len(str(told.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (("consistancy",), {}, r"unknown auxiliary loss 'consistancy'.*'consistency'\?"),
        (("distance", "distance"), {}, r"loss.terms names 'distance' twice"),
        ((), {"distance": {"weight": 1.0}}, r"loss.terms does not name 'distance'; add it"),
        (("distance",), {"distance": {"wieght": 1.0}}, r"'terms.distance.wieght'.*'weight'\?"),
        (("distance",), {"distance": {"weight": -1.0}}, r"terms.distance.weight is -1.0"),
    ],
)
def test_impossible_terms_get_one_line(names, settings, message, tiny):
    with pytest.raises(ConfigError, match=message):
        resolved(with_terms(tiny, *names, **settings))


def test_every_term_of_ours_is_known_by_its_name():
    assert [source.split(".")[-1].split(":")[0] for source in OWN] == list(own())
    for name, term in own().items():
        assert isinstance(term, Term)
        assert issubclass(term.settings, TermSettings)
        assert term.settings.section == f"terms.{name}"
        assert term.settings().weight > 0
    assert distance.TERM is own()["distance"]
