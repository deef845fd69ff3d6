"""Trials on Dask: the bytes and the order of threads, and sentences where a cluster cannot play them."""

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import distributed
import pytest

from flows.domain.triggers import make_rules
from simulation import dask_jobs
from simulation.dask_jobs import DaskUnavailable
from simulation.errors import InvalidScenario
from simulation.experiment import simulate
from simulation.experiment_until import simulate_until
from simulation.plan import Trigger
from simulation.result import Experiment, Trial
from simulation.scenario import Scenario
from tests.simulation.plans import OPENS_AT, flat_forecast, small_plan

CALM = Scenario(name="calm", question="And without trouble?")
BUSY = Scenario.model_validate(
    {"name": "busy", "question": "?", "events": [{"kind": "surge", "at_min": 5, "minutes": 2, "factor": 4}]}
)
PLAN = small_plan(
    window__duration_min=20,
    window__rollback_reserve_min=1,
    training__stages=[{"name": "train", "minutes_p50": 5, "minutes_p95": 9, "pausable": True, "serving_slowdown": 1.5}],
)
RULES = make_rules([Trigger(name="slow", observe="p99_ms", above=200, clears_below=150, clears_for_s=20)])


def local_cluster(**options: Any) -> distributed.LocalCluster:
    """Return a cluster; its loop must start in ten seconds, by an assert of its own, and gets a second chance here."""
    try:
        return distributed.LocalCluster(**options)
    except AssertionError:
        return distributed.LocalCluster(**options)


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """One worker process: everything that is sent is pickled, and the worker imports the simulator anew."""
    with local_cluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0") as made:
        yield made


@pytest.fixture(scope="module")
def inside() -> Iterator[distributed.Client]:
    """A cluster inside this process, whose code can be replaced."""
    with (
        local_cluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as made,
        distributed.Client(made) as client,
    ):
        yield client


def run(**settings: Any) -> Experiment:
    defaults: dict[str, Any] = {"load": flat_forecast(10.0), "opens_at": OPENS_AT, "replications": 2, "rules": RULES}
    return simulate(PLAN, [CALM, BUSY], **(defaults | settings))


def bytes_of(experiment: Experiment) -> list[str]:
    """Every field of every trial; digits of a repr are exact, and NaN equals NaN in it."""
    return [repr(trial) for trial in experiment.trials]


def test_one_thread_two_threads_and_a_worker_process_give_the_same_bytes(cluster: distributed.LocalCluster) -> None:
    told: list[Trial] = []
    late = Scenario.model_validate({"name": "busy", "question": "?", "events": [{"kind": "late_data", "minutes": 19}]})
    for scenarios in ([CALM, BUSY], [CALM, late]):
        settings: dict[str, Any] = {
            "load": flat_forecast(10.0), "opens_at": OPENS_AT, "replications": 2, "rules": RULES,
        }  # fmt: skip
        one = simulate(PLAN, scenarios, threads=1, **settings)
        two = simulate(PLAN, scenarios, threads=2, **settings)
        told.clear()
        far = simulate(PLAN, scenarios, dask=cluster.scheduler_address, on_trial=told.append, **settings)
        assert bytes_of(one) == bytes_of(two) == bytes_of(far)
        assert [t.fingerprint for t in far.trials] == [t.fingerprint for t in one.trials]
        assert one.provenance == far.provenance
        assert [(t.scenario, t.seed) for t in told] == [(s, i) for s in ("calm", "busy") for i in (1, 2)]
    assert any(math.isnan(t.finish_min) for t in far.trials)  # late data: training never starts


def test_a_client_is_taken_and_left_open(inside: distributed.Client) -> None:
    assert bytes_of(run(dask=inside)) == bytes_of(run())
    assert inside.status == "running"


def test_the_order_holds_when_jobs_are_handed_over_bit_by_bit(
    inside: distributed.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_jobs, "_AHEAD", 2)
    assert bytes_of(run(dask=inside)) == bytes_of(run())


def test_sequential_stopping_plays_the_same_nights_on_a_cluster(inside: distributed.Client) -> None:
    settings: dict[str, Any] = {
        "load": flat_forecast(10.0), "opens_at": OPENS_AT, "half_width": 0.3, "cap": 8, "least_n": 4,
    }  # fmt: skip
    here = simulate_until(PLAN, [CALM, BUSY], **settings)
    far = simulate_until(PLAN, [CALM, BUSY], dask=inside, **settings)
    assert bytes_of(here.experiment) == bytes_of(far.experiment)
    assert repr(here.stopped) == repr(far.stopped)


def test_a_night_that_cannot_be_played_is_refused_as_it_is_in_threads(inside: distributed.Client) -> None:
    short = replace(flat_forecast(10.0), load_rps=flat_forecast(10.0).load_rps[:3])
    for dask in (None, inside):
        with pytest.raises(InvalidScenario, match="does not cover the night"):
            run(load=short, dask=dask)


# Does it refuse well?


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DaskUnavailable, match=r"Dask is not installed; install lull\[dask\]"):
        run(dask="tcp://127.0.0.1:8786")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere"])
def test_an_address_at_which_nobody_answers_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_jobs, "_CONNECT_S", 0.5)
    with pytest.raises(DaskUnavailable, match=f"no Dask scheduler answers at '{address}'"):
        run(dask=address)


def test_a_cluster_to_which_no_worker_comes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_jobs, "_WORKERS_S", 0.2)
    with (
        local_cluster(n_workers=0, processes=False, dashboard_address=":0") as empty,
        pytest.raises(DaskUnavailable, match=r"no worker came to .* within 0\.2 s"),
    ):
        run(dask=empty.scheduler_address)


def test_a_worker_with_another_version_is_refused(inside: distributed.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    here = dask_jobs._code_here()
    answers = iter([here])  # the caller asks first
    monkeypatch.setattr(dask_jobs, "_code_here", lambda: next(answers, here | {"numpy": "0.1"}))
    with pytest.raises(DaskUnavailable, match=r"other code \(numpy 0\.1 instead of"):
        run(dask=inside)
