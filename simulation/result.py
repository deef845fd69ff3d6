"""What simulations return: frozen, plain, and able to become a pandas frame."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class JobOutcome:
    """
    What became of one model's training: when it was to begin and when it ended (minutes after the opening, NaN for
    never), whether it did so before the rollback reserve, and whether the packing deferred it.
    """

    model: str
    begins_min: float
    finish_min: float
    has_finished: bool
    is_deferred: bool


@dataclass(frozen=True)
class Trial:
    """
    One scenario with one seed. Minutes count from the opening of the window; the judged span runs from the opening
    to half an hour after the close. Per-minute tuples begin half an hour before the opening. What never happened is
    NaN. `capacity_steps` says from which minute on how many requests per second the open replicas could finish.
    With several models `has_finished` speaks of all that were not deferred, the main one among them, `finish_min` of
    the main one, and `jobs` of each.
    """

    scenario: str
    seed: int
    n_requests: int
    n_bad: int
    n_retries: int
    is_breach: bool
    good_ratio: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    has_finished: bool
    finish_min: float
    paused_min: float
    promoted_min: float
    rolled_back_min: float
    longest_bad_min: int
    cost: float
    max_queue: int
    is_overloaded: bool
    in_flight: int
    offered_per_min: tuple[int, ...]
    bad_per_min: tuple[int, ...]
    queue_per_min: tuple[int, ...]
    capacity_steps: tuple[tuple[float, float], ...]
    steps: tuple[tuple[float, float, str], ...]
    events: tuple[tuple[float, str], ...]
    fingerprint: str
    jobs: tuple[JobOutcome, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """All trials of one plan, in the order scenario by scenario and seed by seed, and where they come from."""

    trials: tuple[Trial, ...]
    provenance: dict[str, Any]

    def of(self, scenario: str) -> tuple[Trial, ...]:
        """Return the trials of one scenario."""
        return tuple(trial for trial in self.trials if trial.scenario == scenario)

    def scenarios(self) -> tuple[str, ...]:
        """Return the scenarios' names in the order in which they were run."""
        return tuple(dict.fromkeys(trial.scenario for trial in self.trials))

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per trial, provenance in `.attrs`."""
        import pandas as pd

        wide = {"offered_per_min", "bad_per_min", "queue_per_min", "capacity_steps", "steps", "events", "jobs"}
        frame = pd.DataFrame([{k: v for k, v in asdict(t).items() if k not in wide} for t in self.trials])
        for name, value in self.provenance.items():
            frame.attrs[name] = value
        return frame
