"""Merge plans beyond plain constant-rate runs: momentum, varying rates, gaps in the record, and what they say of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, cosine, linear, step_decay, warmup_stable_decay
from sgdynamics.theory.schedules import center_weights, gain_kept, gains_to_average, merge_plan

seeds = st.integers(0, 2**32 - 1)

# ---------------------------------------------------------------------------------------------------------------------
# The run, written out


def coefficients(rates, curvature, momentum=0.0, inside=False):
    """What x_0, u_0 and c_1..c_T weigh in x_0..x_T; with ``inside`` the rate is put inside the velocity."""
    size = len(rates) + 2
    point, velocity = np.eye(size)[0], np.eye(size)[1]
    rows = [point]
    for j, rate in enumerate(rates):
        slope = curvature * (point - np.eye(size)[j + 2])
        velocity = momentum * velocity + (rate * slope if inside else slope)
        point = point - (velocity if inside else rate * velocity)
        rows.append(point)
    return np.array(rows)


def start_covariance(rate, curvature, variance, momentum):
    """Stationary covariance of point and velocity, by solving its linear equation."""
    step = np.array([[1 - rate * curvature, -rate * momentum], [curvature, momentum]])
    kick = np.array([rate * curvature, -curvature])
    system = np.eye(4) - np.kron(step, step)
    return variance * np.linalg.solve(system, np.kron(kick, kick)).reshape(2, 2)


def unrolled(plan, target, base, modes, momentum, at_rest):
    """Risks of base, target and merged point, and their distance in parts, mode by mode."""
    totals = {name: 0.0 for name in ("base", "target", "merged", "start", "velocity", "noise")}
    for h, c, n in zip(*modes, strict=True):
        law = start_covariance(base[0], h, c, momentum)
        if at_rest:
            law[0, 1] = law[1, 0] = law[1, 1] = 0
        run, wanted = coefficients(base, h, momentum), coefficients(target, h, momentum)[-1]
        merged = plan.weight.values @ run[plan.checkpoint.values]

        def risk(row, h=h, c=c, n=n, law=law):
            return n * h / 2 * (row[:2] @ law @ row[:2] + c * np.sum(row[2:] ** 2))

        gap = merged - wanted
        for name, row in {"base": run[-1], "target": wanted, "merged": merged}.items():
            totals[name] += risk(row)
        totals["noise"] += n * h / 2 * c * np.sum(gap[2:] ** 2)
        totals["start"] += n * h / 2 * law[0, 0] * gap[0] ** 2
        totals["velocity"] += n * h / 2 * (2 * law[0, 1] * gap[0] * gap[1] + law[1, 1] * gap[1] ** 2)
    return totals


@settings(max_examples=40)
@given(
    seed=seeds,
    momentum=st.sampled_from([0.0, 0.3, 0.9]),
    at_rest=st.booleans(),
    varying=st.booleans(),
    rule=st.sampled_from(["wsm", "binomial", "lsq", "lsq_nonneg", "risk", "uniform"]),
)
def test_risks_and_their_parts_are_those_of_the_unrolled_runs(seed, momentum, at_rest, varying, rule):
    random = np.random.default_rng(seed)
    steps, modes = int(random.integers(3, 25)), int(random.integers(1, 5))
    fields = 10 ** random.uniform(-2, 0, modes), random.uniform(0.1, 2, modes), random.uniform(0.5, 3, modes)
    base = random.uniform(0.2, 0.9, steps) if varying else np.full(steps, 0.7)
    target = base * np.sort(random.uniform(0, 1, steps))[::-1]
    inner = random.permutation(np.arange(1, steps))[: random.integers(0, steps - 1)]
    checkpoints = np.concatenate([[0], np.sort(inner), [steps]])
    model = MiniBatchQuadratic(fields[0], fields[1], multiplicity=fields[2])
    plan = merge_plan(
        target, base if varying else 0.7, checkpoints, rule=rule, model=model, momentum=momentum, at_rest=at_rest
    )
    found = unrolled(plan, target, base, fields, momentum, at_rest or momentum == 0)
    wanted = found["target"]
    assert float(plan.weight.sum()) == pytest.approx(1, abs=1e-9)
    for name in ("base", "target", "merged"):
        assert float(plan[f"{name}_risk"]) == pytest.approx(found[name], rel=1e-9)
        assert float(plan[f"{name}_bias"] + plan[f"{name}_noise"]) == pytest.approx(found[name], rel=1e-9)
    assert float(plan.residual_bias) * wanted == pytest.approx(found["start"], rel=1e-8, abs=1e-12)
    assert float(plan.residual_velocity) * wanted == pytest.approx(found["velocity"], rel=1e-8, abs=1e-12)
    assert float(plan.residual_noise) * wanted == pytest.approx(found["noise"], rel=1e-8, abs=1e-12)
    parts = float(plan.residual_bias + plan.residual_velocity + plan.residual_noise)
    assert float(plan.residual) == pytest.approx(parts, rel=1e-12)
    # floors are floors, and bands are the parts of the whole
    assert float(plan.noise_floor) <= float(plan.merged_risk) * (1 + 1e-9)
    assert float(plan.residual_floor) <= float(plan.residual) + 1e-9
    for name in ("target_risk", "merged_risk", "base_risk", "residual"):
        assert float(plan[f"band_{name}"].sum()) == pytest.approx(float(plan[name]), rel=1e-12)
        assert plan[f"band_{name}"].attrs["units"] == plan[name].attrs["units"]


@settings(max_examples=40)
@given(seed=seeds, momentum=st.sampled_from([0.0, 0.5]))
def test_no_rule_has_a_lower_risk_than_risk_nor_a_smaller_residual_than_lsq(seed, momentum):
    random = np.random.default_rng(seed)
    steps = int(random.integers(4, 20))
    target, base = np.sort(random.uniform(0, 0.8, steps))[::-1], np.full(steps, 0.8)
    checkpoints = np.union1d([0, steps], random.integers(0, steps, 4))
    model = MiniBatchQuadratic(10 ** random.uniform(-2, 0, 5), random.uniform(0.1, 2, 5))
    plans = {
        rule: merge_plan(target, base, checkpoints, rule=rule, model=model, momentum=momentum)
        for rule in ("wsm", "binomial", "lsq", "lsq_nonneg", "risk", "uniform")
    }
    if momentum == 0:
        plans["exact"] = merge_plan(target, base, checkpoints, rule="exact", model=model, curvature=0.3)
    for plan in plans.values():
        assert plans["risk"].merged_risk <= plan.merged_risk * (1 + 1e-9)
        assert plans["lsq"].residual <= plan.residual + 1e-9
        assert plan.noise_floor == pytest.approx(float(plans["risk"].merged_risk))
        assert plan.residual_floor == pytest.approx(float(plans["lsq"].residual), abs=1e-12)


def test_the_distance_to_the_target_is_that_of_runs_on_shared_batches():
    random = np.random.default_rng(5)
    curvature, replicas, steps, momentum = np.array([0.05, 0.3, 1.0]), 40_000, 24, 0.6
    variance = np.array([2.0, 1.0, 0.5])
    target, checkpoints = linear(0.9, steps), np.array([0, 3, 10, 17, 24])
    model = MiniBatchQuadratic(curvature, variance)
    plan = merge_plan(target, 0.9, checkpoints, rule="wsm", model=model, momentum=momentum, at_rest=False)
    laws = [
        start_covariance(0.9, h, c, momentum) for h, c in zip(curvature, variance, strict=True)
    ]  # fmt: skip
    start = np.stack([random.multivariate_normal([0, 0], law, replicas) for law in laws], axis=-1)
    run, wanted = start.copy(), start.copy()
    merged = plan.weight.values[0] * run[:, 0]
    for step in range(1, steps + 1):
        center = random.normal(size=(replicas, 3)) * np.sqrt(variance)
        for state, rate in ((run, 0.9), (wanted, target[step - 1])):
            state[:, 1] = momentum * state[:, 1] + curvature * (state[:, 0] - center)
            state[:, 0] -= rate * state[:, 1]
        if step in checkpoints:
            merged = merged + plan.weight.values[np.searchsorted(checkpoints, step)] * run[:, 0]
    for measured, predicted in (
        (np.sum(curvature * (merged - wanted[:, 0]) ** 2, axis=1) / 2, plan.residual * plan.target_risk),
        (np.sum(curvature * merged**2, axis=1) / 2, plan.merged_risk),
        (np.sum(curvature * wanted[:, 0] ** 2, axis=1) / 2, plan.target_risk),
        (np.sum(curvature * run[:, 0] ** 2, axis=1) / 2, plan.base_risk),
    ):
        z = (measured.mean() - float(predicted)) / (measured.std() / np.sqrt(replicas))
        assert abs(z) < 4


# ---------------------------------------------------------------------------------------------------------------------
# Momentum


@given(seed=seeds, momentum=st.floats(0.01, 0.97), varying=st.booleans())
def test_merging_a_momentum_run_from_rest_is_exact_at_one_curvature(seed, momentum, varying):
    random = np.random.default_rng(seed)
    steps, curvature = int(random.integers(1, 40)), 10 ** random.uniform(-2, 0)
    base = random.uniform(0.1, 0.9, steps) if varying else np.full(steps, 0.5)
    target = random.uniform(0, 0.9, steps)
    plan = merge_plan(target, base, np.arange(steps + 1), rule="exact", curvature=curvature, momentum=momentum)
    merged = plan.weight.values @ coefficients(base, curvature, momentum)
    wanted = coefficients(target, curvature, momentum)[-1]
    scale = np.abs(plan.weight.values).sum()
    np.testing.assert_allclose(np.delete(merged - wanted, 1), 0, atol=1e-13 * scale)


def test_a_linear_decay_of_a_momentum_run_asks_for_negative_weights():
    steps, gain, momentum = 120, 0.05, 0.9
    fractions = 1 - np.arange(1, steps + 1) / steps
    plan = merge_plan(
        gain * fractions, gain, np.arange(steps + 1), rule="exact", curvature=1.0, momentum=momentum
    )  # fmt: skip
    assert float(plan.smallest_weight) == pytest.approx(-0.0069, abs=5e-5)
    assert "weights are negative, the smallest -0.006939" in plan.warnings
    # the same with the rate inside the velocity, which is another method: solved here as the triangular system
    run, wanted = (
        coefficients(rates, 1.0, momentum, inside=True) for rates in (np.full(steps, gain), gain * fractions)
    )
    weights = np.linalg.solve(np.delete(run, 1, axis=1).T, np.delete(wanted[-1], 1))
    assert weights.min() == pytest.approx(-0.0150, abs=5e-5)


@given(seed=seeds, momentum=st.floats(0.1, 0.95))
def test_an_inherited_velocity_is_merged_with_the_first_center(seed, momentum):
    # u_1 = beta u_0 + h (x_0 - c_1): whatever matches the weight of c_1 matches that of u_0
    random = np.random.default_rng(seed)
    curvature, target = 10 ** random.uniform(-1, 0), random.uniform(0, 0.5, 12)
    for inside in (False, True):
        run = coefficients(np.full(12, 0.5), curvature, momentum, inside=inside)
        wanted = coefficients(target, curvature, momentum, inside=inside)[-1]
        weights = np.linalg.solve(np.delete(run, 1, axis=1).T, np.delete(wanted, 1))
        gap = weights @ run[:, 1] - wanted[1]
        if inside:  # there the first rate is in between, and base run and decay differ in it
            assert wanted[1] == pytest.approx(wanted[2] * momentum / (-target[0] * curvature), rel=1e-9)
            assert gap == pytest.approx(momentum / curvature * wanted[2] * (1 / target[0] - 1 / 0.5), rel=1e-6)
        else:
            assert abs(gap) < 1e-12 * np.abs(weights).sum() / curvature


def test_a_velocity_leaves_a_residual_where_the_first_center_is_not_matched():
    model = MiniBatchQuadratic([1.0], 1.0)
    arguments = {"model": model, "momentum": 0.9, "at_rest": False}
    exact = merge_plan(linear(0.05, 60), 0.05, np.arange(61), rule="exact", curvature=1.0, **arguments)
    assert float(exact.residual) < 1e-24
    flat = merge_plan(linear(0.05, 60), 0.05, np.arange(61), rule="uniform", **arguments)
    assert float(flat.residual_velocity) > 1e-3


def test_momentum_goes_to_plain_sgd_as_it_vanishes():
    model = MiniBatchQuadratic([0.1, 1.0], 1.0)
    for rule in ("exact", "lsq", "risk"):
        plain, tiny = (
            merge_plan(linear(0.4, 8), 0.4, np.arange(9), rule=rule, model=model, curvature=0.5, momentum=momentum)
            for momentum in (0.0, 1e-9)
        )
        xr.testing.assert_allclose(plain.drop_attrs(), tiny.drop_attrs(), rtol=1e-6, atol=1e-8)


# ---------------------------------------------------------------------------------------------------------------------
# Section by section: what a base run may look like


@given(seed=seeds)
def test_exact_weights_of_a_varying_base_run_are_those_of_its_gains(seed):
    random = np.random.default_rng(seed)
    base, target = random.uniform(0.1, 0.9, 12), random.uniform(0, 0.9, 12)
    plan = merge_plan(target, base, np.arange(13), rule="exact", curvature=0.7)
    np.testing.assert_allclose(plan.weight, gains_to_average(0.7 * target, 0.7 * base), rtol=1e-12, atol=1e-14)


@given(seed=seeds)
def test_tail_sums_are_the_flat_limit_for_a_varying_base_run_at_sparse_checkpoints(seed):
    random = np.random.default_rng(seed)
    base = random.uniform(0.1, 0.9, 15)
    target = base * random.uniform(0, 1, 15)
    checkpoints = np.array([0, 2, 3, 9, 15])
    flat = merge_plan(target, base, checkpoints, rule="wsm")
    nearly = merge_plan(target, base, checkpoints, rule="exact", curvature=1e-8)
    np.testing.assert_allclose(flat.weight, nearly.weight, atol=1e-6)


def test_steps_at_which_the_base_run_rests_are_dropped():
    base, target = np.array([0.4, 0.0, 0.0, 0.4]), np.array([0.3, 0.0, 0.0, 0.1])
    plan = merge_plan(target, base, [0, 1, 2, 3, 4], rule="wsm")
    np.testing.assert_allclose(plan.weight, [0.25, 0.5, 0, 0, 0.25])
    assert "The base learning rate is 0 in 2 steps, the first of them 2: they are dropped." in plan.warnings
    exact = merge_plan(target, base, [0, 1, 2, 3, 4], rule="exact", curvature=1.0)
    merged = exact.weight.values @ coefficients(base, 1.0)
    np.testing.assert_allclose(merged, coefficients(target, 1.0)[-1], atol=1e-15)
    for rule in ("wsm", "exact", "binomial"):
        with pytest.raises(ValueError, match=r"must be > 0 where the target moves, in steps 3\.\.3"):
            merge_plan([0.3, 0.0, 0.1, 0.1], base, [0, 1, 2, 3, 4], rule=rule, curvature=1.0)
    # rules made from a model use what was saved, whatever moved
    model = MiniBatchQuadratic([1.0], 1.0)
    assert float(merge_plan([0.3, 0.0, 0.1, 0.1], base, [0, 1, 2, 3, 4], rule="lsq", model=model).residual) > 0


def test_a_target_above_the_base_run_is_merged_and_flagged():
    plan = merge_plan([0.13, 0.05, 0.0], 0.1, [0, 1, 2, 3], rule="wsm")
    np.testing.assert_allclose(plan.weight, [-0.3, 0.8, 0.5, 0.0])
    assert "The target exceeds the base learning rate in 1 steps: merging has to extrapolate." in plan.warnings
    assert "1 weights are negative, the smallest -0.3 at step 0" in plan.warnings


def test_a_warmup_inside_the_window_is_merged_and_flagged():
    plan = merge_plan([0.02, 0.09, 0.03], 0.1, [0, 1, 2, 3], rule="exact", curvature=3.0)
    assert plan.weight.values == pytest.approx([0.53144, -0.44044, 0.609, 0.3])
    assert "The target increases within the window" in plan.warnings
    assert "squared weights sum to" in plan.warnings


def test_gains_between_one_and_two_are_legitimate_and_flagged():
    plan = merge_plan([1.35, 1.35], 1.5, [0, 1, 2], rule="exact", curvature=1.0)
    assert plan.weight.values == pytest.approx([-0.035, 0.135, 0.9])
    assert "gains up to 1.5, above 1" in plan.warnings


def test_no_decay_at_all_is_the_last_checkpoint():
    model = MiniBatchQuadratic([0.1, 1.0], 1.0)
    for rule in ("wsm", "exact", "binomial", "lsq", "lsq_nonneg"):
        plan = merge_plan(constant(0.5, 6), 0.5, [0, 2, 3, 6], rule=rule, model=model, curvature=1.0)
        np.testing.assert_allclose(plan.weight, [0, 0, 0, 1], atol=1e-9)
        assert float(plan.residual) < 1e-12
        assert "Keep the last checkpoint" in plan.summary


def test_a_decay_to_zero_is_fine():
    assert merge_plan(linear(0.5, 6), 0.5, [0, 3, 6], rule="wsm").warnings == ""


def test_a_run_by_adam_is_flagged():
    plan = merge_plan(linear(0.5, 6), 0.5, [0, 3, 6], rule="wsm", optimiser="adam")
    assert plan.warnings.startswith("The base run was made by Adam: only 'wsm' is exact")
    assert "not made by SGD" in merge_plan(linear(0.5, 6), 0.5, [0, 6], rule="uniform", optimiser="other").warnings


def test_binomial_with_momentum_is_flagged():
    assert "'binomial' matches the bias of SGD without momentum only." in merge_plan(
        linear(0.5, 6), 0.5, [0, 3, 6], rule="binomial", momentum=0.5
    ).warnings.split("\n")


def test_a_jump_is_a_reason_to_be_careful_with_tail_sums():
    plan = merge_plan(step_decay(0.5, 10, 0.1, 5), 0.5, np.arange(11), rule="wsm")
    assert "The target drops in a jump" in plan.warnings


def test_sparse_checkpoints_say_that_they_miss_the_risk_of_the_decay():
    curvature = np.geomspace(1e-3, 1, 40)
    model = MiniBatchQuadratic(curvature, 1 / curvature)
    target = linear(1.0, 200)
    dense, sparse = (
        merge_plan(target, 1.0, np.arange(0, 201, stride), rule="lsq_nonneg", model=model) for stride in (1, 40)
    )
    assert "No weights on these checkpoints reach the decay's risk" in sparse.warnings
    assert "Decay: under the model it is the better of the two." in sparse.summary
    assert "their distance is 2.5" in sparse.warnings
    assert "No weights" not in dense.warnings
    assert "Average: under the model" in dense.summary
    # what is far above the stride in gain cannot be averaged away: V/(M+1)
    steep = merge_plan(target, 1.0, np.arange(0, 201, 40), rule="risk", model=MiniBatchQuadratic([1.0], 1.0))
    assert float(steep.noise_floor) == pytest.approx(0.5 * 1.0 / 6, rel=1e-9)


def test_bands_are_decades_of_gain():
    model = MiniBatchQuadratic([0.02, 0.5, 2.0, 2.5], 1.0)
    plan = merge_plan(linear(0.5, 6), 0.5, [0, 3, 6], rule="wsm", model=model)
    assert plan.lowest_gain.values == pytest.approx([0.01, 0.1, 1.0])
    assert plan.highest_gain.values == pytest.approx([0.1, 1.0, 10.0])
    alone = merge_plan(linear(0.5, 6), 0.5, [0, 3, 6], rule="wsm", model=MiniBatchQuadratic([0.5], 1.0))
    assert float(plan.band_merged_risk[1]) == pytest.approx(float(alone.merged_risk))


# ---------------------------------------------------------------------------------------------------------------------
# The default


@pytest.mark.parametrize("target", [linear(0.3, 40), cosine(0.3, 40), linear(0.3, 40, final=0.01)])
def test_a_smooth_decay_to_about_zero_is_merged_by_tail_sums(target):
    assert merge_plan(target, 0.3, [0, 10, 40]).rule == "wsm"


@pytest.mark.parametrize(
    "target",
    [
        step_decay(0.3, 40, 0.1, 20),
        linear(0.3, 40, final=0.1),
        constant(0.3, 40),
        warmup_stable_decay(0.3, 40, 10, 20),
    ],
)
def test_anything_else_asks_for_a_spectrum(target):
    with pytest.raises(ValueError, match=r"model must be given where the rule is 'auto'.*log_uniform.*'lsq_nonneg'"):
        merge_plan(target, 0.3, [0, 10, 40])
    prior = MiniBatchQuadratic.log_uniform(1e-4, 1.0, 10)
    plan = merge_plan(target, 0.3, [0, 10, 40], model=prior)
    assert plan.rule == "lsq_nonneg"
    assert float(plan.smallest_weight) >= 0


# ---------------------------------------------------------------------------------------------------------------------
# What cannot be planned, and what can be kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "exact", "curvature": 1.0, "momentum": 0.5}, "checkpoints must be all steps for rule 'exact' of a"),
        (
            {
                "rule": "exact",
                "curvature": 1.0,
                "momentum": 0.5,
                "checkpoints": range(4),
                "base_learning_rate": [1, 0, 1],
            },
            "base_learning_rate must be > 0 in all steps for rule 'exact' with momentum",
        ),
        ({"model": MiniBatchQuadratic([1.0], 0.0)}, "model must be one under which the target has a finite expected"),
        ({"base_learning_rate": [0.0, 0.1, 0.1], "target_schedule": [0, 0.1, 0]}, "must be > 0 in the first step"),
        (
            {"model": MiniBatchQuadratic([1.0], 1.0, displacement=1.0), "momentum": 0.5, "at_rest": False},
            "at_rest must be True where the model has a displacement",
        ),
        (
            {"model": MiniBatchQuadratic([1.0], xr.DataArray([1.0, 2.0], dims="noise"))},
            "model must be one model, with the dim 'mode' alone",
        ),
        ({"model": MiniBatchQuadratic([21.0], 1.0)}, "base_learning_rate must be below the stability edge 0.095"),
    ],
)
def test_plans_that_cannot_be_made_say_why(change, message):
    sound = {
        "target_schedule": [0.1, 0.05, 0.0],
        "base_learning_rate": 0.1,
        "checkpoints": [0, 1, 3],
        "rule": "wsm",
        "model": MiniBatchQuadratic([1.0], 1.0),
    }
    merge_plan(**sound)
    with pytest.raises(ValueError, match=message):
        merge_plan(**{**sound, **change})


def test_momentum_moves_the_edge_that_a_base_run_must_stay_below():
    model = MiniBatchQuadratic([21.0], 1.0)
    assert merge_plan(linear(0.1, 4), 0.1, [0, 4], model=model, momentum=0.5).rule == "lsq_nonneg"


def test_an_overflowing_target_is_refused_as_a_model_of_it():
    model = MiniBatchQuadratic([1.0], 1.0)
    with pytest.raises(ValueError, match="model must be one under which the target has a finite expected risk"):
        merge_plan(constant(1e160, 4), 0.5, [0, 4], rule="wsm", model=model)


def test_a_plan_survives_a_file_and_a_table(tmp_path):
    plan = merge_plan(linear(0.5, 6), 0.5, [0, 3, 6], model=MiniBatchQuadratic([0.1, 1.0], 1.0))
    plan.to_netcdf(tmp_path / "plan.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "plan.nc", engine="h5netcdf") as read:
        xr.testing.assert_identical(read.load(), plan)
    assert json.loads(json.dumps(plan.to_dict()))["attrs"]["rule"] == "lsq_nonneg"
    assert plan.weight.to_dataframe().shape == (3, 1)


def test_center_weights_of_a_plan_are_those_of_the_decay_at_its_curvature():
    plan = merge_plan(cosine(0.5, 20), 0.5, np.arange(21), rule="exact", curvature=0.8)
    merged = plan.weight.values @ np.delete(coefficients(np.full(20, 0.5), 0.8), 1, axis=1)
    start, weights = center_weights(0.8 * cosine(0.5, 20))
    np.testing.assert_allclose(merged, np.append(start, weights), atol=1e-14)


# ---------------------------------------------------------------------------------------------------------------------
# The share of the decay's gain


def risk_of(base, rates, weights, curvature, momentum, at_rest):
    """Expected excess risk of an average of the iterates, one mode of center variance 1/h, by summing squares of what
    every center and the start weigh; the recursion written out.
    """
    steps = len(rates)
    # the stationary law of (x, u) at the base rate, by doubling
    step = np.array([[1 - base * curvature, -base * momentum], [curvature, momentum]])
    kick = np.array([base * curvature, -curvature])
    law = np.outer(kick, kick) / curvature
    for _ in range(60):
        law, step = law + step @ law @ step.T, step @ step
    if at_rest:
        law = np.diag([law[0, 0], 0.0])
    point = np.zeros((steps + 1, steps + 2))  # of start, velocity and centers
    x, u = np.zeros(steps + 2), np.zeros(steps + 2)
    x[0], u[1] = 1.0, 1.0
    point[0] = x
    for j, rate in enumerate(rates):
        center = np.zeros(steps + 2)
        center[j + 2] = 1.0
        u = momentum * u + curvature * (x - center)
        x = x - rate * u
        point[j + 1] = x
    made = weights @ point
    return curvature / 2 * (made[:2] @ law @ made[:2] + (made[2:] ** 2).sum() / curvature)


@pytest.mark.parametrize(("momentum", "at_rest"), [(0.0, False), (0.6, False), (0.6, True)])
def test_the_share_of_the_gain_is_that_of_the_unrolled_runs(momentum, at_rest):
    steps, rate = 12, 0.3
    checkpoints, weights = [5, 9, 12, 17], np.array([0.1, 0.2, 0.3, 0.4])
    target = linear(rate, steps)
    found = gain_kept(weights, target, rate, checkpoints, momentum=momentum, at_rest=at_rest).gain_kept
    average, last = np.zeros(steps + 1), np.zeros(steps + 1)
    average[np.array(checkpoints) - 5], last[-1] = weights, 1.0
    for fraction in found.fraction.values:
        for decades in found.decades.values:
            top = fraction * 2 * (1 + momentum) / rate
            curvatures = np.geomspace(top, top * 10.0**-decades, 20)
            risks = [
                sum(risk_of(rate, rates, point, h, momentum, at_rest) for h in curvatures)
                for rates, point in (([rate] * steps, last), ([rate] * steps, average), (target, last))
            ]
            share = (risks[0] - risks[1]) / (risks[0] - risks[2])
            assert float(found.sel(fraction=fraction, decades=decades)) == pytest.approx(share, rel=1e-9)


@settings(max_examples=25)
@given(fraction=st.floats(0.1, 0.75), decades=st.floats(2, 4), every=st.sampled_from([10, 20, 40]))
def test_the_range_holds_the_spectra_between_its_own(fraction, decades, every):
    steps, rate = 400, 0.1
    target, checkpoints = linear(rate, steps), np.arange(0, steps + 1, every)
    high = fraction * 2 / rate
    broad = MiniBatchQuadratic.log_uniform(high * 10**-decades, high, 40)
    plan = merge_plan(
        target, rate, checkpoints, rule="wsm", model=MiniBatchQuadratic(broad.curvature, 1 / broad.curvature)
    )
    shares = gain_kept(plan.weight.values, target, rate, checkpoints).gain_kept
    assert shares.min() - 0.01 <= plan.gain_kept <= shares.max() + 0.01


def test_a_decay_that_gains_nothing_has_no_share():
    assert np.isnan(gain_kept([0.5, 0.5], constant(0.1, 10), 0.1, [0, 10]).gain_kept).all()
    model = MiniBatchQuadratic([1.0], 1.0)
    assert "gain_kept" not in merge_plan(constant(0.1, 10), 0.1, [0, 10], rule="uniform", model=model)
