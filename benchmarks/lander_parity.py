"""Lunar Lander against Box2D, step by step and over whole episodes.

    python benchmarks/lander_parity.py [--episodes 200] [--seed 0] [--fused]

Policies go from Gymnasium's heuristic to random play: episode i of n takes a share i / (n - 1) of
its actions at random.  Box2D plays, and the same actions are taken in our world.

Whole episodes: both start alike and go on by themselves.  An episode agrees if both end at the
same step with the same return to 1e-2; beside it stands how many end at the same step, and with the
same last reward.  One step: before every step our bodies, joints and
contact impulses are set to Box2D's, so errors do not add up.  Beside each figure stands the noise
floor: Box2D against itself with the initial force scaled by 1 + 1e-7.

XLA rounds a product and a sum that it fuses once, Box2D's compiler twice, and a lander's course
amplifies the last bit.  So XLA is kept here from instructions that fuse (on x86-64); with
``--fused`` it is left as it is elsewhere.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.envs.box2d.lunar_lander import heuristic

from muscope import runtime
from muscope.envs.lunar_lander import snapshot, world
from muscope.envs.lunar_lander.environment import LunarLander, begin, terrain
from muscope.envs.lunar_lander.snapshot import Snapshot
from muscope.envs.lunar_lander.touch import Touch

LIMIT = 1000
RATE = 1.0  # per second, so that forces are impulses


class Quiet:
    """A generator whose dispersion draws count as 0; terrain and initial force are kept."""

    def __init__(self, seed: int, scale: float = 1.0):
        self.generator, self.scale = np.random.default_rng(seed), scale
        self.drawn: list[np.ndarray] = []

    def uniform(self, low: float = 0.0, high: float = 1.0, size: tuple | None = None):
        """A draw; nothing is random after the terrain and the force."""
        value = self.generator.uniform(low, high, size)
        if len(self.drawn) >= 3:
            return value * 0.0
        self.drawn.append(np.copy(value))
        return value * self.scale if len(self.drawn) > 1 else value


def box2d(seed: int, scale: float = 1.0) -> tuple[Any, np.ndarray]:
    """Gymnasium's lander after its reset, and its first observation."""
    lander: Any = gymnasium.make("LunarLander-v3").unwrapped
    lander._np_random = Quiet(seed, scale)
    return lander, lander.reset()[0]


class Truth(NamedTuple):
    """What Box2D's world is in, in our order of bodies, joints and slots."""

    bodies: np.ndarray  # [6, 3]: x, y, angle, vx, vy, spin of lander, left, right leg
    joints: np.ndarray  # [2, 4]: impulses x, y, limit, motor
    points: np.ndarray  # [12, 5]: body, edge, id, normal and tangent impulse; body -1: no point


class Step(NamedTuple):
    """One step of an episode."""

    action: int
    observation: np.ndarray
    reward: float
    over: bool
    touched: bool
    truth: Truth  # before the step


def read(lander: Any) -> Truth:
    """Box2D's floats."""
    parts = (lander.lander, *lander.legs)
    bodies = np.array(
        [(*b.worldCenter, b.angle, *b.linearVelocity, b.angularVelocity) for b in parts],
        np.float32,
    ).T
    joints = np.array(
        [
            (
                *leg.joint.GetReactionForce(RATE),
                leg.joint.GetReactionTorque(RATE),
                leg.joint.GetMotorTorque(RATE),
            )
            for leg in lander.legs
        ],
        np.float32,
    )
    points = np.full((12, 5), -1.0, np.float32)
    count = 0
    for number, body in enumerate(parts):
        for contact in (edge.contact for edge in body.contacts if edge.contact.touching):
            place = round(contact.fixtureA.shape.vertices[0][0] / 2)
            for i in range(contact.manifold.pointCount):
                point = contact.manifold.points[i]
                cf = point.id.cf
                key = cf.indexA | cf.indexB << 4 | cf.typeA << 8 | cf.typeB << 9
                points[count] = number, place, key, point.normalImpulse, point.tangentImpulse
                count += 1
    return Truth(bodies, joints, points)


def play(
    seed: int, share: float, scale: float = 1.0, actions: list[int] | None = None
) -> list[Step]:
    """One episode in Box2D, with a share of random actions, or of given actions."""
    lander, seen = box2d(seed, scale)
    rng = np.random.default_rng(seed + 1000)
    steps: list[Step] = []
    touched = False
    for now in range(LIMIT if actions is None else len(actions)):
        truth = read(lander)
        if actions is None:
            action = int(heuristic(lander, seen))
            action = int(rng.integers(4)) if rng.random() < share else action
        else:
            action = actions[now]
        seen, reward, over, _, _ = lander.step(action)
        touched |= any(
            e.contact.touching for b in (lander.lander, *lander.legs) for e in b.contacts
        )
        steps.append(Step(action, seen, float(reward), over, touched, truth))
        if over:
            break
    return steps


def force(state: Snapshot, truth: Truth) -> Snapshot:
    """Our state with Box2D's floats; which contacts there are, and their order, stay ours."""
    w = snapshot.unpack(state.world)
    bodies = w.bodies.__class__(*(tuple(row) for row in truth.bodies))
    joints: Any = tuple(
        joint._replace(x=row[0], y=row[1], limit_impulse=row[2], motor=row[3])
        for joint, row in zip(w.joints, truth.joints, strict=True)
    )

    def of_body(body, touched: Touch) -> Touch:
        slots: Any = []
        for slot, impulses in enumerate(touched.impulses):
            here = (truth.points[:, 0] == body) & (truth.points[:, 1] == touched.left + slot)
            same_feature = [here & (truth.points[:, 2] == number) for number in impulses.ids]

            def given(column, ours, same_feature=same_feature):
                return tuple(
                    jnp.where(jnp.any(f), jnp.sum(jnp.where(f, truth.points[:, column], 0.0)), x)
                    for f, x in zip(same_feature, ours, strict=True)
                )

            slots.append(
                impulses._replace(
                    normal=given(3, impulses.normal), tangent=given(4, impulses.tangent)
                )
            )
        return touched._replace(impulses=tuple(slots))

    touches = jax.vmap(of_body)(jnp.arange(3), w.touches)
    forced = w._replace(bodies=bodies, joints=joints, touches=touches)
    return snapshot.snapshot(forced)._replace(phase=state.phase)


class Seen(NamedTuple):
    """What our world shows after each step, [T, E, ...]."""

    observation: Any
    reward: Any
    over: Any
    impact: Any  # whether a time of impact was possible
    phase: Any  # before the step
    bodies: Any  # as in Truth
    joints: Any


def ours(starts: Snapshot, actions: np.ndarray, truth: Truth, forced: bool) -> Seen:
    """All episodes side by side, by themselves or set to Box2D's floats before every step."""
    environment = LunarLander()

    def of_one_episode(state, action, truth):
        state = force(state, truth) if forced else state
        settled, before = world.settle(snapshot.unpack(state.world), action)
        hit = jnp.any(world.may_hit(settled, before))
        moved = environment.step(state, action)
        after = snapshot.unpack(moved.state.world)
        bodies = jnp.stack([jnp.stack(row) for row in after.bodies])
        joints = jnp.stack([jnp.stack([j.x, j.y, j.limit_impulse, j.motor]) for j in after.joints])
        seen = (moved.state.observation, moved.reward, moved.terminated)
        return moved.state, Seen(*seen, hit, state.phase, bodies, joints)

    def step(state, given):
        return jax.vmap(of_one_episode)(state, *given)

    return jax.device_get(jax.jit(lambda *a: jax.lax.scan(step, *a)[1])(starts, (actions, truth)))


def padded(episodes: list[list[Step]]) -> tuple[np.ndarray, Truth, dict[str, np.ndarray]]:
    """Actions and truths [T, E, ...] for our world, and what Box2D showed."""
    longest = max(map(len, episodes))
    full = [steps + [steps[-1]] * (longest - len(steps)) for steps in episodes]
    columns = [[step[i] for step in row] for row in full for i in range(len(Step._fields))]
    by_field = {
        name: [columns[e * len(Step._fields) + i] for e in range(len(full))]
        for i, name in enumerate(Step._fields)
    }
    truth = Truth(
        *(
            np.swapaxes(np.array([[getattr(t, f) for t in row] for row in by_field["truth"]]), 0, 1)
            for f in Truth._fields
        )
    )
    shown = {
        name: np.swapaxes(np.array(by_field[name]), 0, 1)
        for name in ("observation", "reward", "over", "touched")
    }
    shown["real"] = np.arange(longest)[:, None] < np.array(list(map(len, episodes)))
    return np.swapaxes(np.array(by_field["action"], np.int32), 0, 1), truth, shown


def equal(seen: Seen, truth: Truth, shown: dict[str, np.ndarray]) -> None:
    """How many steps are equal in every bit of bodies and joints; an episode's last is not seen."""
    pairs = ((seen.bodies, truth.bodies), (seen.joints, truth.joints))
    same = np.logical_and(*((ours[:-1] == box2d[1:]).all((-2, -1)) for ours, box2d in pairs))
    for name, phase in (("far from", snapshot.FLYING), ("near", snapshot.NEAR)):
        chosen = shown["real"][1:] & (seen.phase[:-1] == phase)
        print(f"  equal in every bit, {name} the ground: {same[chosen].sum()} of {chosen.sum()}")


def quantiles(values: np.ndarray) -> str:
    """Median, p90, p99 and maximum."""
    if not len(values):
        return "none"
    points = [*np.quantile(values, [0.5, 0.9, 0.99]), values.max()]
    return "  ".join(f"{x:8.1e}" for x in points)


def whole(name: str, seen: Seen, shown: dict[str, np.ndarray]) -> None:
    """How many episodes end alike, and the observations' errors before and after contact."""
    real = shown["real"]
    lengths = real.sum(axis=0)
    going = np.cumsum(seen.over, axis=0) - seen.over == 0
    ends = np.where(seen.over.any(axis=0), seen.over.argmax(axis=0) + 1, 0)
    returns = np.where(going & real, seen.reward, 0.0).sum(axis=0, dtype=np.float64)
    truth = np.where(real, shown["reward"], 0.0).sum(axis=0)
    over = shown["over"][lengths - 1, np.arange(len(lengths))]
    together = ends == np.where(over, lengths, 0)
    episode = np.arange(len(lengths))
    last = np.abs((seen.reward - shown["reward"])[lengths - 1, episode]) < 1e-2
    same = together & (np.abs(returns - truth) < 1e-2)
    print(f"{name}: {same.sum()} of {len(same)} episodes agree ({same.mean():.1%})")
    print(
        f"  end at the same step: {together.mean():.1%}, with the same last reward too: "
        f"{(together & last).mean():.1%}"
    )
    fifths = [f"{part.mean():.0%}" for part in np.array_split(same, 5)]
    print(f"  by share of random actions, in fifths of the episodes: {', '.join(fifths)}")
    error = np.abs(seen.observation - shown["observation"])
    free = real & ~shown["touched"] & going
    after = real & shown["touched"] & going & ~seen.over
    print(f"  before contact, worst of 8 components {quantiles(error[free].max(axis=-1))}")
    for part, index in (("x", 0), ("vx", 2), ("angle", 4)):
        print(f"  after contact, {part:<22} {quantiles(error[after][:, index])}")


def fuses() -> bool:
    """Whether XLA rounds a product and a sum once."""
    x, y, z = np.random.default_rng(0).normal(size=(3, 1000)).astype(np.float32)
    return not np.array_equal(jax.jit(lambda x, y, z: x * y + z)(x, y, z), x * y + z)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first episode")
    parser.add_argument("--fused", action="store_true", help="let XLA fuse products and sums")
    options = parser.parse_args()
    if not options.fused:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_max_isa=AVX"
        jax.config.update("jax_platforms", "cpu")
    runtime.prepare()
    clock = time.perf_counter()
    seeds = range(options.seed, options.seed + options.episodes)
    shares = np.linspace(0.0, 1.0, options.episodes)
    episodes = [play(seed, share) for seed, share in zip(seeds, shares, strict=True)]
    actions, truth, shown = padded(episodes)
    draws = [box2d(seed)[0].np_random.drawn for seed in seeds]
    with jax.enable_x64(True):
        heights = np.asarray(jax.vmap(terrain)(jnp.array([d[0] for d in draws])))
    forces = np.array([d[1:] for d in draws], np.float32)
    starts = jax.jit(jax.vmap(begin))(heights, forces)

    print("products and sums", "fused" if fuses() else "rounded one by one, as by Box2D")
    print("columns: median, p90, p99, greatest")
    whole("muscope", ours(starts, actions, truth, forced=False), shown)
    again = [
        play(seed, 0.0, 1 + 1e-7, [s.action for s in steps])
        for seed, steps in zip(seeds, episodes, strict=True)
    ]
    longest = len(actions)
    other = padded([steps + [steps[-1]] * (longest - len(steps)) for steps in again])[2]
    floor = Seen(*(other[name] for name in ("observation", "reward", "over")), *[None] * 4)
    whole("Box2D, force x (1 + 1e-7)", floor, shown)

    seen = ours(starts, actions, truth, forced=True)
    error = np.abs(seen.observation - shown["observation"])[..., :6].max(axis=-1)
    real, over = shown["real"], shown["over"]
    print(f"one step from Box2D's floats, {real.sum()} steps, worst of 6 components")
    for name, chosen in (("without", ~seen.impact), ("with a possible", seen.impact)):
        print(f"  {name + ' time of impact':<38} {quantiles(error[real & chosen])}")
    equal(seen, truth, shown)
    ended = seen.over != over
    wrong = np.abs(seen.reward - shown["reward"]) > 1.0
    legs = np.any(seen.observation[..., 6:] != shown["observation"][..., 6:], axis=-1)
    print(f"  ends that differ: {(ended & real).sum()}")
    print(f"  rewards of an end that differ: {(wrong & real & (over | seen.over)).sum()}")
    print(f"  leg contacts that differ: {(legs & real).sum()}")
    print(f"{time.perf_counter() - clock:.0f} s")


if __name__ == "__main__":
    main()
