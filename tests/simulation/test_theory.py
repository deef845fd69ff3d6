"""Theory itself against reference values, and the exact queue against theory, study by study."""

import math

import numba
import numpy as np
import pytest

from simulation import theory
from simulation.errors import InvalidWorkload
from simulation.theory_chains import interrupted_mean_number, transient_queue
from simulation.theory_check import Study, TheoryRow, check_theory, controlled_means
from simulation.theory_studies import all_studies

# Is the theory right? Reference values, computed elsewhere.


@pytest.mark.parametrize(
    ("arrival", "servers", "waits", "mean", "p95", "p99"),
    [
        (0.8, 1, 0.8, 4.0, 13.86294361, 21.91013317),
        (1.8, 2, 0.8526315789, 4.263157895, 14.18152268, 22.22871225),
        (9.0, 10, 0.6687315241, 0.6687315241, 2.593359665, 4.202797577),
        (95.0, 100, 0.5064568539, 0.1012913708, 0.4630832260, 0.7849708085),
    ],
)
def test_mmc_has_the_reference_values(arrival, servers, waits, mean, p95, p99):
    queue = theory.MMc(arrival, 1.0, servers)
    values = [queue.wait_probability, queue.mean_wait_s, queue.wait_quantile_s(0.95), queue.wait_quantile_s(0.99)]
    assert values == pytest.approx([waits, mean, p95, p99], rel=2e-9)


def test_mmc_quantile_moments_and_tail_belong_together():
    queue = theory.MMc(9.0, 1.0, 10)
    assert queue.wait_exceeds(queue.wait_quantile_s(0.99)) == pytest.approx(0.01)
    assert queue.wait_quantile_s(0.2) == 0.0
    assert theory.mg1_wait(0.8, theory.erlang_moments(1.0, 1)) == pytest.approx(
        (theory.MMc(0.8, 1.0, 1).mean_wait_s, theory.MMc(0.8, 1.0, 1).second_moment_wait_s2)
    )


@pytest.mark.parametrize(
    ("moments", "means", "sd"),
    [
        (theory.deterministic_moments(1.0), (0.5, 2.0, 4.5), 2.309401077),
        (theory.erlang_moments(1.0, 2), (0.75, 3.0, 6.75), 3.605551275),
        (theory.hyperexponential_moments(1.0, 4.0), (2.5, 10.0, 22.5), 13.41640786),
        (theory.lognormal_moments(1.0, 4.0), (2.5, 10.0, 22.5), 16.32993162),
    ],
)
def test_mg1_has_the_reference_values(moments, means, sd):
    assert [theory.mg1_wait(load, moments)[0] for load in (0.5, 0.8, 0.9)] == pytest.approx(means)
    mean, second = theory.mg1_wait(0.8, moments)
    assert math.sqrt(second - mean**2) == pytest.approx(sd, rel=1e-9)


def test_the_hyperexponential_has_balanced_means():
    assert theory.balanced_hyperexponential(1.0, 4.0) == pytest.approx((0.8872983346, 1.774596669, 0.2254033308))


@pytest.mark.parametrize(
    ("arguments", "rejected", "mean"),
    [
        ((3.0, 4.0, 2, 1), 0.04936014625, 0.01730769231),
        ((9.0, 1.0, 10, 5), 0.06125876183, 0.1262766334),
        ((10.0, 1.0, 10, 0), 0.2145823431, 0.0),
    ],
)
def test_finite_room_has_the_reference_values(arguments, rejected, mean):
    assert theory.mmck(*arguments) == pytest.approx((rejected, mean), rel=1e-9)


def test_a_loss_system_is_erlang_b():
    assert theory.mmck(10.0, 1.0, 10, 0)[0] == pytest.approx(theory.erlang_b(10.0, 10))


@pytest.mark.parametrize(
    ("arguments", "abandons", "waits", "mean"),
    [
        ((10.0, 1.0, 10, 0.5), 0.1039132123, 0.6196552309, 0.2078264247),
        ((12.0, 1.0, 10, 1.0), 0.213632353, 0.7576078383, 0.213632353),
        ((120.0, 1.0, 100, 0.5), 0.166790631, 0.9966343704, 0.3335812619),
    ],
)
def test_erlang_a_has_the_reference_values(arguments, abandons, waits, mean):
    known = theory.erlang_a(*arguments)
    assert (known.abandon_probability, known.wait_probability, known.mean_wait_s) == pytest.approx(
        (abandons, waits, mean), rel=1e-9
    )
    assert known.abandon_probability == pytest.approx(arguments[3] * known.mean_wait_s)


def test_the_smaller_closed_forms_have_the_reference_values():
    assert theory.mdc_mean_wait_s(0.8, 1.0, 1) == pytest.approx(2.0, rel=1e-9)
    assert theory.mdc_mean_wait_s(1.8, 1.0, 2) == pytest.approx(2.14692321, rel=1e-8)
    assert [theory.mt_m_infinity_mean(at, 100, 40, 24, 2) for at in (0, 6, 18)] == pytest.approx(
        [47.42610905, 69.66307846, 30.33692154]
    )
    assert theory.mm1_retrial_orbit(0.5, 1, 1) == pytest.approx(1.0)
    assert theory.mm1_retrial_orbit(0.8, 1, 0.5) == pytest.approx(9.6)
    assert theory.mm1_wait_asymptotic_variance(0.8) == pytest.approx(1976.0)
    assert theory.mm1_wait_asymptotic_variance(0.9) == pytest.approx(35901.0)


def test_a_storm_sustains_itself_only_above_capacity():
    assert theory.sustains_retry_storm(8.0, 10.0, 1)
    assert not theory.sustains_retry_storm(8.0, 10.0, 0)
    assert not theory.sustains_retry_storm(5.0, 10.0, 1)


@pytest.mark.parametrize(
    ("running", "numbers"),
    [
        ("evict", [8.71915078, 11.0966996, 22.0950214, 43.1191179]),
        ("drain", [8.71915078, 10.7949060, 21.8571198, 42.8998533]),
    ],
)
def test_capacity_that_changes_has_the_reference_values(running, numbers):
    known = transient_queue([5, 21, 30, 50], 8.0, 1.0, [(0, 10), (20, 7), (50, 10)], running=running, longest_line=220)
    assert known.mean_number == pytest.approx(numbers, rel=5e-9)
    assert known.cut_probability < 1e-9


def test_windows_under_a_sine_have_the_reference_values():
    def rate(t):
        return 7.0 + 3.0 * math.sin(2.0 * math.pi * t / 24.0)

    lines = [
        transient_queue([opens + 6], rate, 1.0, [(0, 10), (opens, 8)], running="evict", longest_line=120).mean_waiting
        for opens in (27, 39)
    ]
    assert np.concatenate(lines) == pytest.approx([13.41, 0.192], abs=5e-3)


def test_a_chain_left_alone_reaches_the_steady_state():
    known = transient_queue([0.0, 1500.0], 1.6, 1.0, [(0, 2)], longest_line=200)
    queue = theory.MMc(1.6, 1.0, 2)
    assert known.mean_waiting == pytest.approx([0.0, 1.6 * queue.mean_wait_s], rel=1e-6)
    assert known.all_busy_probability[1] == pytest.approx(queue.wait_probability, rel=1e-6)


def test_interruptions_have_the_reference_values():
    assert interrupted_mean_number(0.7, (1, 1.0), (1, 0.5), 0.01, 0.04) == pytest.approx(5.786366570, rel=1e-9)
    assert interrupted_mean_number(8.0, (10, 1.0), (10, 0.7), 0.02, 0.08) == pytest.approx(16.63731519, rel=1e-9)


def test_an_interruption_that_changes_nothing_leaves_the_mmc_queue():
    queue = theory.MMc(1.6, 1.0, 2)
    mean = interrupted_mean_number(1.6, (2, 1.0), (2, 1.0), 0.3, 0.7)
    assert mean == pytest.approx(1.6 * (queue.mean_wait_s + 1.0), rel=1e-8)


# Does it refuse well?


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        (lambda: theory.MMc(1.0, 1.0, 1), "load is 1 of capacity; a steady state needs less than 1: add servers"),
        (lambda: theory.MMc(-1.0, 1.0, 1), "arrival_rps is -1.0; it must be finite and above 0"),
        (lambda: theory.MMc(1.0, math.nan, 1), "service_rps is nan"),
        (lambda: theory.MMc(1.0, 1.0, 1.5), "servers is 1.5; it must be a whole number, 1 or more"),
        (lambda: theory.MMc(0.5, 1.0, 1).wait_quantile_s(1.0), "level is 1.0"),
        (lambda: theory.MMc(0.5, 1.0, 1).wait_exceeds(-1.0), "wait_s is -1.0"),
        (lambda: theory.erlang_b(0.0, 1), "offered_load is 0.0"),
        (lambda: theory.erlang_c(2.0, 2), "load is 1 of capacity"),
        (lambda: theory.mg1_wait(0.5, (1.0, 0.5, 1.0)), "belong to no service time"),
        (lambda: theory.mg1_wait(1.5, (1.0, 1.0, 1.0)), "load is 1.5 of capacity"),
        (lambda: theory.balanced_hyperexponential(1.0, 1.0), "scv is 1.0"),
        (lambda: theory.mmck(1.0, 1.0, 1, -1), "room is -1"),
        (lambda: theory.erlang_a(1.0, 1.0, 1, 0.0), "abandon_rps is 0.0"),
        (lambda: theory.erlang_a(1000.0, 1.0, 1, 1e-6), "states are too many"),
        (lambda: theory.mdc_mean_wait_s(0.9999, 1.0, 1), "5,000 can be done"),
        (lambda: theory.mt_m_infinity_mean(0, 1, 2, 24, 1), "amplitude_rps is 2"),
        (lambda: theory.mt_m_infinity_mean(math.inf, 1, 1, 24, 1), "time_s is inf"),
        (lambda: theory.mm1_retrial_orbit(1.0, 1.0, 1.0), "load is 1 of capacity"),
        (lambda: theory.mm1_wait_asymptotic_variance(1.0), "load is 1 of capacity"),
        (lambda: theory.sustains_retry_storm(1.0, 1.0, -1), "retries is -1"),
        (lambda: interrupted_mean_number(0.9, (1, 1.0), (1, 0.1), 1.0, 1.0), "load is 1.63636 of capacity"),
        (lambda: interrupted_mean_number(0.9, (1, 1.0), (-1, 0.1), 1.0, 1.0), "beside servers is -1"),
        (lambda: transient_queue([1], 1.0, 1.0, []), r"capacity must begin with a pair \(0, servers\)"),
        (lambda: transient_queue([1], 1.0, 1.0, [(0, 1), (0, 2)]), r"capacity\[1\] is from 0 s on"),
        (lambda: transient_queue([2, 1], 1.0, 1.0, [(0, 1)]), "times_s must be seconds in increasing order"),
        (lambda: transient_queue([1], 1.0, 1.0, [(0, 1)], running="kill"), "running is 'kill'"),
    ],
)
def test_theory_refuses_what_it_does_not_hold_for(attempt, sentence):
    with pytest.raises(InvalidWorkload, match=sentence):
        attempt()


# Is the comparison itself honest?


def test_controls_sharpen_a_mean_without_moving_it():
    rng = np.random.default_rng(5)
    control = rng.normal(3.0, 1.0, 4000)
    values = np.column_stack([10.0 + 2.0 * (control - 3.0) + rng.normal(0.0, 0.1, 4000), control, np.ones(4000)])
    mean, error = controlled_means(values, np.array([3.0, 1.0]))
    assert error[0] == pytest.approx(0.1 / math.sqrt(4000), rel=0.05)
    assert abs(mean[0] - 10.0) < 4.0 * error[0]
    plain, plain_error = controlled_means(values[:, :1], np.empty(0))
    assert plain[0] == pytest.approx(values[:, 0].mean())
    assert plain_error[0] == pytest.approx(values[:, 0].std(ddof=1) / math.sqrt(4000))


def test_a_wrong_queue_and_a_blunt_comparison_do_not_agree():
    def one_of(replications, mean):
        return Study("coin", lambda: (("mean", 5.0),), lambda rng: [float(rng.normal(mean, 1.0))], replications)

    assert one_of(2000, 5.0).rows(1)[0].agrees
    assert not one_of(2000, 5.2).rows(1)[0].agrees
    assert not one_of(20, 5.0).rows(1)[0].agrees  # within 4 standard errors, but those are wide
    assert TheoryRow("none", 0.0, 0.0, 0.0, 1.0).agrees
    assert not TheoryRow("none", 0.0, 0.1, 0.0, 1.0).agrees


def test_the_same_seed_gives_the_same_rows():
    def study():
        return Study("coin", lambda: (("mean", 0.5),), lambda rng: [float(rng.random())], 50).rows(3)[0]

    assert (study().observed, study().standard_error) == (study().observed, study().standard_error)


# Is the queue true?


@pytest.mark.theory
@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="tens of millions of requests need the compiled kernel")
@pytest.mark.parametrize("study", all_studies(), ids=lambda study: study.name)
def test_the_queue_agrees_with_theory_within_four_standard_errors(study):
    for row in study.rows(seed=1):
        assert row.is_sharp, f"{row.name}: standard error {row.standard_error:.3g} of {row.expected:.6g}"
        assert row.agrees, f"{row.name}: {row.observed:.6g}, theory {row.expected:.6g}, z {row.z:.1f}"


@pytest.mark.theory
@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="tens of millions of requests need the compiled kernel")
def test_the_table_can_be_asked_for_a_part():
    rows = check_theory(names="M/M/2 with room")
    assert [row.name.partition(": ")[2] for row in rows] == ["share rejected", "mean wait of the others"]
    assert all(row.agrees for row in rows)
