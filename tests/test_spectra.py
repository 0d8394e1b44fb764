"""Spectra from files and arrays: every shape in which other packages export them, and what is done to them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import sgdynamics
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.spectra import quadratic_from_spectrum, read_spectrum
from sgdynamics.theory.schedules import merge_plan

seeds = st.integers(0, 2**32 - 1)


def lanczos_runs(matrix, runs, steps, seed=0):
    """Eigenvalues and weights of the tridiagonal matrices of several Lanczos runs, as lists of lists."""
    random, eigenvalues, weights = np.random.default_rng(seed), [], []
    for _ in range(runs):
        basis = [random.choice([-1.0, 1.0], len(matrix)) / np.sqrt(len(matrix))]
        for _ in range(steps - 1):
            new = matrix @ basis[-1]
            for old in basis * 2:  # twice is enough
                new -= (old @ new) * old
            basis.append(new / np.linalg.norm(new))
        values, vectors = np.linalg.eigh(np.array(basis) @ matrix @ np.array(basis).T)
        eigenvalues.append(list(values))
        weights.append(list(vectors[0] ** 2))
    return eigenvalues, weights


def a_matrix(size=60, seed=1):
    random = np.random.default_rng(seed)
    values = np.exp(random.uniform(-5, 1, size))
    rotation = np.linalg.qr(random.normal(size=(size, size)))[0]
    return rotation * values @ rotation.T, np.sort(values)


# ---------------------------------------------------------------------------------------------------------------------
# Shapes


def test_eigenvalues_are_modes_of_multiplicity_one():
    spectrum = read_spectrum([2.0, 0.5, 1.0])
    assert spectrum.curvature.values.tolist() == [0.5, 1.0, 2.0]
    assert spectrum.multiplicity.values.tolist() == [1.0, 1.0, 1.0]
    assert (spectrum.kind, spectrum.dropped_multiplicity) == ("eigenvalues", 0.0)


def test_top_eigenvalues_with_their_vectors_leave_the_vectors_out():
    values = np.array([3.0, 1.0])
    alone = read_spectrum(values)
    xr.testing.assert_identical(read_spectrum((values, np.ones((2, 7)))), alone)  # one row a vector
    columns = (values, np.ones((7, 2)))  # one column a vector
    xr.testing.assert_identical(read_spectrum(columns), alone)
    xr.testing.assert_identical(read_spectrum(columns, kind="eigenvalues"), alone)
    tensors = [[np.ones((2, 3)), np.ones(3)], [np.ones((2, 3)), np.ones(3)]]  # as the parameters of a network
    xr.testing.assert_identical(read_spectrum((list(values), tensors)), alone)


def test_a_quadrature_of_lanczos_runs_has_the_trace_of_the_matrix():
    matrix, values = a_matrix()
    runs = lanczos_runs(matrix, 40, 12)
    spectrum = read_spectrum(runs, dimension=60, smallest=1e-6)
    assert spectrum.kind == "weights"
    assert float(spectrum.multiplicity.sum()) == pytest.approx(60)
    trace = float(spectrum.curvature @ spectrum.multiplicity)
    assert trace == pytest.approx(values.sum(), rel=0.15)  # Hutchinson's estimate over 40 directions
    assert float(spectrum.curvature.max()) == pytest.approx(values[-1], rel=1e-3)
    # single precision and complex numbers without an imaginary part, as some routines return them
    single = tuple(np.array(part, dtype=np.complex64) for part in runs)
    assert float(read_spectrum(single, smallest=1e-6).multiplicity.sum()) == pytest.approx(1)


def test_a_density_on_a_grid_is_integrated():
    grid = np.linspace(0.0, 2.0, 400)
    density = np.exp(-((grid - 1.0) ** 2) / 0.02) / np.sqrt(0.02 * np.pi)
    spectrum = read_spectrum((grid, density), dimension=1000, smallest=1e-3)
    assert spectrum.kind == "density"
    assert float(spectrum.multiplicity.sum()) == pytest.approx(1000)
    assert float(spectrum.curvature @ spectrum.multiplicity) == pytest.approx(1000, rel=1e-6)
    uneven = np.geomspace(0.01, 3.0, 4000)  # a logarithmic grid
    values = np.exp(-((uneven - 1.0) ** 2) / 0.02) / np.sqrt(0.02 * np.pi)
    again = read_spectrum((uneven, values), kind="density", dimension=1000)
    assert float(again.curvature @ again.multiplicity) == pytest.approx(1000, rel=1e-4)


def test_multiplicities_are_kept_as_they_are():
    spectrum = read_spectrum(([1.0, 0.1], [3, 40]), kind="multiplicities")
    assert spectrum.multiplicity.values.tolist() == [40.0, 3.0]


def test_what_stands_beside_the_eigenvalues_must_be_told_where_it_cannot_be_seen():
    with pytest.raises(ValueError, match="kind must be given where the second array neither sums to 1"):
        read_spectrum(([1.0, 0.1], [3, 40]))
    with pytest.raises(ValueError, match="kind must be 'eigenvalues' if and only if"):
        read_spectrum([1.0, 0.1], kind="weights")


# ---------------------------------------------------------------------------------------------------------------------
# Files


def test_files_hold_what_arrays_hold(tmp_path):
    values, weights = np.array([0.2, 0.7, 1.5]), np.array([0.5, 0.3, 0.2])
    alone, weighted = read_spectrum(values), read_spectrum((values, weights))
    np.save(tmp_path / "values.npy", values)
    np.savez(tmp_path / "top.npz", eigenvals=values, eigenvecs=np.ones((3, 5)))
    (tmp_path / "bare.csv").write_text("".join(f"{value}\n" for value in values), encoding="utf-8")
    (tmp_path / "bare.txt").write_text("eigenvalues\n0.2\n0.7\n1.5\n", encoding="utf-8")
    for name in ("values.npy", "top.npz", "bare.csv", "bare.txt"):
        xr.testing.assert_equal(read_spectrum(tmp_path / name), alone)
    np.savez(tmp_path / "runs.npz", density_eigen=values[None], density_weight=weights[None])
    rows = "".join(f"{value},{weight}\n" for value, weight in zip(values, weights, strict=True))
    (tmp_path / "pairs.csv").write_text(f"eigenvalue, weight\n{rows}", encoding="utf-8")
    for name in ("runs.npz", "pairs.csv"):
        xr.testing.assert_equal(read_spectrum(str(tmp_path / name)), weighted)
    assert read_spectrum(tmp_path / "pairs.csv").source.endswith("pairs.csv")
    (tmp_path / "modes.csv").write_text("curvature,multiplicity\n0.5,10\n2,1\n", encoding="utf-8")
    assert read_spectrum(tmp_path / "modes.csv").multiplicity.values.tolist() == [10.0, 1.0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("empty.csv", "\n", "source must be a file that holds a table with headings and at least one row"),
        (
            "words.csv",
            "eigenvalues\n1.0\nmany\n",
            "a file that holds numbers in the column 'eigenvalues' in row 2",
        ),
        ("short.csv", "eigenvalues,weights\n1.0\n", "a number in every row of 'weights': short.csv, got 'row 1'"),
        ("long.csv", "eigenvalues,weights\n1.0,0.5\n2.0,0.5,3.0\n", "one cell for every heading in every row .* saw 3"),
        ("headless.csv", "1.0,2.0\n", "a table with headings, which say what its columns are"),
        ("strange.csv", "speed,weight\n1.0,2.0\n", "source must be a file with one of eigenvalues"),
        ("spectrum.json", "[]", r"source must be the path of a \.csv"),
    ],
)
def test_files_that_hold_no_spectrum_say_why(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_spectrum(tmp_path / name)


def test_a_table_may_be_written_in_any_usual_way(tmp_path):
    pairs = np.array([[0.2, 0.5], [0.7, 0.3], [1.5, 0.2]])
    weighted = read_spectrum((pairs[:, 0], pairs[:, 1]))
    for name, how in {
        "blanks": {"header": "eigenvalues weights"},
        "commas": {"header": "density of a run\neigenvalues,weights", "delimiter": ","},
        "tabs": {"header": "eigenvalues\tweights", "delimiter": "\t", "comments": ""},
    }.items():
        np.savetxt(tmp_path / f"{name}.txt", pairs, **how)
    for name, text in {
        "quoted": '"eigenvalues","weights"\n"0.2","0.5"\n"0.7","0.3"\n"1.5","0.2"\n',
        "mark": "\ufeffeigenvalues,weights\n0.2,0.5\n0.7,0.3\n1.5,0.2\n",
        "decimal": "eigenvalues;weights\n0,2;0,5\n0,7;0,3\n1,5;0,2\n",
    }.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    for path in tmp_path.iterdir():
        xr.testing.assert_equal(read_spectrum(path), weighted)
    np.savetxt(tmp_path / "alone.csv", pairs[:, 0], header="the largest of a Hessian")
    xr.testing.assert_equal(read_spectrum(tmp_path / "alone.csv"), read_spectrum(pairs[:, 0]))


def test_pickles_are_refused(tmp_path):
    np.save(tmp_path / "values.npy", np.array([[1.0], [1.0, 2.0]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        read_spectrum(tmp_path / "values.npy")


# ---------------------------------------------------------------------------------------------------------------------
# Policy


def test_eigenvalues_that_are_not_positive_need_a_decision():
    values = [-0.2, -1e-9, 0.0, 1e-9, 0.3, 1.0]
    with pytest.raises(
        ValueError, match=r"smallest must be given where eigenvalues are <= 0 \(here 3 of them, 0\.5 of"
    ):
        read_spectrum(values)
    spectrum = read_spectrum(values, smallest=1e-6)
    assert spectrum.curvature.values.tolist() == [0.3, 1.0]
    assert spectrum.dropped_multiplicity == 4
    assert spectrum.dropped_trace == pytest.approx(-0.2)
    with pytest.raises(ValueError, match=r"smallest must be at most the largest eigenvalue 1\.0"):
        read_spectrum(values, smallest=2.0)


@given(seed=seeds, bins=st.integers(1, 40))
def test_bins_keep_count_and_trace(seed, bins):
    random = np.random.default_rng(seed)
    values, counts = 10 ** random.uniform(-6, 1, 50), random.uniform(0.1, 5, 50)
    whole = read_spectrum((values, counts), kind="multiplicities")
    binned = read_spectrum((values, counts), kind="multiplicities", bins=bins)
    assert binned.sizes["mode"] <= bins
    assert float(binned.multiplicity.sum()) == pytest.approx(counts.sum())
    assert float(binned.curvature @ binned.multiplicity) == pytest.approx(float(whole.curvature @ whole.multiplicity))
    assert (np.diff(binned.curvature) > 0).all()


def test_one_eigenvalue_can_be_binned():
    assert read_spectrum([0.5, 0.5], bins=4).multiplicity.values.tolist() == [2.0]


@given(seed=seeds)
def test_the_order_of_eigenvalues_does_not_matter(seed):
    random = np.random.default_rng(seed)
    values, weights = 10 ** random.uniform(-3, 1, 9), random.dirichlet(np.ones(9))
    order = random.permutation(9)
    one = read_spectrum((values, weights), bins=4)
    xr.testing.assert_allclose(read_spectrum((values[order], weights[order]), bins=4), one)


def test_directions_that_were_not_measured_get_a_broad_prior():
    spectrum = read_spectrum([1.0, 4.0], dimension=102, smallest=1e-4, unknown=8)
    assert spectrum.sizes["mode"] == 10
    assert float(spectrum.multiplicity.sum()) == pytest.approx(102)
    prior = spectrum.isel(mode=slice(0, 8))
    assert np.diff(np.log(prior.curvature)) == pytest.approx([np.log(1e4) / 8] * 7)
    assert (prior.multiplicity == 12.5).all()
    assert 1e-4 < float(prior.curvature.min()) < float(prior.curvature.max()) < 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimension": None}, "dimension must be given where unknown > 0"),
        ({"smallest": None}, "smallest must be given where unknown > 0"),
        ({"dimension": 2}, "dimension must be larger than the 2 eigenvalues kept"),
        ({"source": ([1.0, 4.0], [0.5, 0.5])}, "unknown must be 0 for weights, which cover every direction"),
        ({"source": [[1.0, 4.0], [0.5, 0.5]]}, "source must be eigenvalues in one row, or a tuple of two arrays"),
        ({"source": [1.0, np.nan]}, "source must be finite real numbers"),
        ({"source": [1.0, 1j]}, "source must be finite real numbers, at least one, without imaginary parts"),
        ({"source": ([1.0, 2.0], [0.5])}, "kind must be given"),
        ({"source": ([1.0, 2.0], [0.5]), "kind": "weights"}, "source must be two arrays of one shape"),
        ({"source": ([1.0, 2.0], [-0.5, 1.5]), "kind": "weights"}, "source must be eigenvalues with weights >= 0"),
        ({"source": ([1.0, 2.0], [0.0, 0.0]), "kind": "weights"}, "source must be eigenvalues with some weights > 0"),
        ({"source": ([2.0, 1.0], [0.5, 0.5]), "kind": "density"}, "source must be an increasing grid"),
        ({"source": ([[1.0, 2.0], [1.0]], [[0.5, 0.5], [1.0]])}, "as many in every row"),
    ],
)
def test_what_is_no_spectrum_says_why(change, message):
    sound = {"source": [1.0, 4.0], "dimension": 102, "smallest": 1e-4, "unknown": 8}
    read_spectrum(**sound)
    with pytest.raises(ValueError, match=message):
        read_spectrum(**{**sound, **change})


# ---------------------------------------------------------------------------------------------------------------------
# Models


def test_a_model_has_the_noise_of_its_curvature_unless_told_otherwise():
    model = quadratic_from_spectrum([0.1, 1.0], batch_size=4)
    np.testing.assert_allclose(model.curvature * model.batch_center_variance, 0.25)
    assert quadratic_from_spectrum([0.1, 1.0], center_variance=2.0).center_variance.tolist() == [2.0, 2.0]
    same = MiniBatchQuadratic([0.1, 1.0], 2.0, displacement=0.5)
    other = quadratic_from_spectrum([0.1, 1.0], center_variance=2.0, displacement=0.5)
    assert other.excess_risk(other.start) == same.excess_risk(same.start)


def test_a_spectrum_reaches_a_merge_plan():
    grid = np.linspace(-0.2, 1.2, 200)
    density = np.exp(-((grid - 0.4) ** 2) / 0.08) / np.sqrt(0.08 * np.pi)
    model = quadratic_from_spectrum((grid, density), dimension=500, smallest=0.01, bins=12)
    plan = merge_plan(np.linspace(0.9, 0.0, 10), 1.0, [0, 5, 10], model=model)
    assert plan.rule == "lsq_nonneg"
    assert 0 < float(plan.residual) < 10


def test_the_stem_has_no_formulas():
    assert not [formula for formula in sgdynamics.formulas(kind="formula") if formula.stem == "spectra"]
