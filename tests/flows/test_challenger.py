"""One challenger per cycle, however often the steps are repeated and whatever ends them; and one run at a time."""

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from flows import challenger as module
from flows.adapters.audit import AuditFile
from flows.adapters.data_store import Snapshot
from flows.adapters.gateway_client import GatewayUnreachable
from flows.adapters.model_registry import InMemoryRegistry, MlflowRegistry, RegisteredVersion, RegistryUnreachable
from flows.challenger import Outcome, Steps, make_challenger, open_window, skipped
from flows.cycle import Cycle
from flows.domain.features import FeatureSchema
from flows.lease import Lease, take_lease
from flows.settings import Settings
from flows.training import TrainedModel, train
from flows.training_run import TrainingEnded, Watch
from flows.wiring import Wired
from reports.records import TrainingRecord, load_record
from simulation.plan import Envelope
from simulation.plan_file import read_plan, window_rule
from simulation.rules import Action

EXAMPLE = Path(__file__).parents[2] / "examples" / "plan.yaml"
_BEFORE = dt.datetime(2009, 6, 13, tzinfo=dt.UTC)
IN_WINDOW = window_rule(read_plan(EXAMPLE)).next_opening(_BEFORE) + dt.timedelta(minutes=1)


@pytest.fixture
def wired(tmp_path: Path) -> Wired:
    plan = read_plan(EXAMPLE)
    small = {"rounds": 4, "segment_rounds": 2, "envelope": Envelope(nice=0)}
    plan = plan.model_copy(update={"training": plan.training.model_copy(update=small), "triggers": ()})
    settings = Settings.from_environment({}, home=tmp_path)
    cycle = Cycle("2009-05", tmp_path / "cycles" / "2009-05", plan, IN_WINDOW)
    registry = cast(MlflowRegistry, InMemoryRegistry("bank-marketing", tmp_path / "models"))
    return Wired(settings, cycle, registry, AuditFile(settings.audit_file))


def fit_here(wired: Wired, snapshot: Snapshot, lease: Lease, watch: Watch) -> TrainedModel:
    """Train in this process: the process of its own has its own tests."""
    from flows.domain.features import bank_marketing_schema

    return train(snapshot, bank_marketing_schema(wired.store().frame), wired.cycle.plan.training)


def run(wired: Wired, **steps: Any) -> Outcome:
    return make_challenger(wired, open_window(wired), Steps(**{"fit": fit_here, **steps}))


def events(wired: Wired) -> list[str]:
    return [entry["event"] for entry in wired.audit.entries()]


def record(wired: Wired) -> TrainingRecord:
    found = load_record(TrainingRecord, wired.cycle.path("training.json"))
    assert found is not None
    return found


def test_a_run_registers_its_model_and_says_so_before_and_after(wired: Wired) -> None:
    outcome = run(wired)
    assert (outcome.status, outcome.version) == ("trained", "1")
    assert events(wired) == ["retrain started", "challenger registered"]
    assert (record(wired).status, record(wired).rounds, record(wired).version) == ("trained", 4, "1")


def test_a_repeated_run_registers_nothing_twice_and_says_it_once(wired: Wired) -> None:
    assert run(wired) == run(wired)
    assert events(wired) == ["retrain started", "challenger registered", "retrain started"]


@pytest.mark.parametrize("step", ["save_record", "_keep"])
def test_a_run_cut_off_after_its_registration_is_finished_by_the_next(
    wired: Wired, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, cut)
        with pytest.raises(KeyboardInterrupt):
            run(wired)
    assert run(wired).version == "1"
    assert events(wired) == ["retrain started", "retrain started", "challenger registered"]


def test_of_two_workers_one_trains_and_the_other_ends_as_skipped(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.lease._PATIENCE_S", 0.0)

    def meanwhile(*arguments: Any) -> TrainedModel:
        second = make_challenger(wired, open_window(wired), Steps(fit=fit_here))
        assert second.status == "skipped"
        assert "trains this model already; this run ends as skipped" in second.reason
        return fit_here(*arguments)

    assert run(wired, fit=meanwhile).status == "trained"
    assert events(wired) == ["retrain started", "retrain skipped", "challenger registered"]
    assert record(wired).status == "trained", "the one that was skipped leaves the record alone"


def test_a_holder_that_was_overtaken_registers_nothing(wired: Wired) -> None:
    def overtaken(wired: Wired, snapshot: Snapshot, lease: Lease, watch: Watch) -> TrainedModel:
        lease.path.unlink()
        with take_lease(lease.path):
            return fit_here(wired, snapshot, lease, watch)

    outcome = run(wired, fit=overtaken)
    assert outcome.status == "stopped"
    assert "holder 2 has taken over from holder 1" in outcome.reason
    assert "challenger registered" not in events(wired)
    assert not wired.cycle.path("training.json").exists(), "the record belongs to who took over"


def test_a_training_that_ended_early_is_recorded_in_its_own_sentence(wired: Wired) -> None:
    def too_large(*_: Any) -> TrainedModel:
        raise TrainingEnded("training took 3 GiB and its envelope has 2 GiB", "memory")

    assert run(wired, fit=too_large) == Outcome("stopped", "training took 3 GiB and its envelope has 2 GiB")
    assert wired.audit.entries()[-1]["details"]["state"] == "memory"
    assert (record(wired).status, record(wired).version) == ("stopped", None)
    assert run(wired).status == "trained", "a later run may succeed"


def test_a_registry_that_is_down_is_one_sentence_and_the_next_run_registers(wired: Wired) -> None:
    def down(*_: Any) -> RegisteredVersion:
        raise RegistryUnreachable("http://nowhere: MLflow cannot be reached (refused); check the address")

    with pytest.raises(RegistryUnreachable, match="MLflow cannot be reached"):
        run(wired, register=down)
    assert run(wired).version == "1"


def test_a_stopped_model_carries_its_reason_into_the_record(wired: Wired) -> None:
    def stopped(wired: Wired, snapshot: Snapshot, lease: Lease, watch: Watch) -> TrainedModel:
        from flows.domain.features import bank_marketing_schema

        schema: FeatureSchema = bank_marketing_schema(wired.store().frame)
        words = {3: "users wait"}
        return train(snapshot, schema, wired.cycle.plan.training, between=lambda rounds: words.get(rounds, ""))

    outcome = run(wired, fit=stopped)
    assert outcome.reason.endswith("; stopped after 3 rounds: users wait")
    assert (record(wired).rounds, record(wired).reason) == (3, outcome.reason)


def test_outside_the_window_nothing_is_trained(wired: Wired) -> None:
    outcome = skipped(wired, "no window is open; the next window opens Sun")
    assert (outcome.status, record(wired).status, events(wired)) == ("skipped", "skipped", ["retrain skipped"])


@dataclass
class Blind:
    """A gateway that nobody reaches, or that answers."""

    pages: list[str | Exception] = field(default_factory=list)

    def metrics(self) -> str:
        page = self.pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return page


def test_the_watch_looks_at_the_gateway_and_tells_once_that_it_cannot_see(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = read_plan(EXAMPLE)
    seeing = Wired(
        wired.settings, Cycle("c", wired.cycle.directory, plan, IN_WINDOW), wired.registry, wired.audit
    )  # fmt: skip
    gone = GatewayUnreachable("no gateway answers at http://127.0.0.1:8480")
    blind = Blind([gone, gone, "", ""])
    monkeypatch.setattr(Wired, "gateway", lambda self, *, timeout_s: blind)
    found = module.watch(seeing, open_window(seeing), Steps())
    assert found.look is not None
    assert [found.look(10.0 * i, False) for i in range(3)] == [None, None, None]
    decision = found.look(30.0, False)
    assert decision is not None
    assert decision.action is Action.CONTINUE
    assert events(wired) == ["training cannot see the gateway"]


def test_training_hands_over_when_the_window_still_holds_what_follows(wired: Wired) -> None:
    decision = open_window(wired)
    found = module.watch(wired, decision, Steps())
    # 12:10 to 14:10 local, now 12:11: less 10 min reserve, 4 min to calibrate and 4 to register at p95.
    assert found.stop_after_s == 60 * (119 - 10 - 8)
    assert found.look is None, "a plan without triggers looks at nobody"
