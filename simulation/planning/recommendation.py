"""What a search for a plan ends with: a `Recommendation` with its runner-up, or a `Refusal` that says what binds."""

from dataclasses import asdict, dataclass
from typing import Any

from simulation.planning.candidates import Candidate
from simulation.planning.objective import Objective
from simulation.result import Experiment
from simulation.statistics import Estimate, FloatArray
from simulation.verdict import Answer, Verdict


@dataclass(frozen=True)
class Counts:
    """
    What became of all combinations; they add up to `combinations`.

    Attributes
    ----------
    no_plan : cannot be a plan, or its night is not forecast
    ruled_out : arithmetic leaves no chance
    by_formula : left out by the screen's approximation, not simulated
    dominated : not simulated, for one that has every advantage over it does not hold
    holding, failing : simulated; failing ones have more bad nights than allowed in a scenario
    undecided : simulated; more nights could show that they hold
    not_reached : not simulated, for enough of what comes before them hold
    """

    combinations: int
    no_plan: int
    ruled_out: int
    by_formula: int
    dominated: int
    holding: int
    failing: int
    undecided: int
    not_reached: int


@dataclass(frozen=True)
class Judged:
    """A candidate that was simulated: its verdict, and the objective of each seed, the mean over the scenarios."""

    candidate: Candidate
    experiment: Experiment
    verdict: Verdict
    values: FloatArray
    objective: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            **self.candidate.to_dict(),
            "answer": self.verdict.answer.value,
            "objective": self.objective.to_dict(),
            "scenarios": [found.to_dict() for found in self.verdict.scenarios],
        }


@dataclass(frozen=True)
class Recommendation:
    """
    The best plan that holds, and how sure that is.

    Attributes
    ----------
    lead : mean by which the best is better than the runner-up, on the same nights, with Student's paired interval;
        None without a runner-up
    selection_confidence : P(none that was held against it is better by more than `indifference`); NaN when the
        nights could not tell them apart
    confidence : with which the verdict holds, for each scenario, over all candidates together
    confidence_each : with which each candidate was judged, so that this is so (Bonferroni)
    """

    best: Judged
    runner_up: Judged | None
    others: tuple[Judged, ...]
    lead: Estimate | None
    selection_confidence: float
    indifference: float
    objective: Objective
    confidence: float
    confidence_each: float
    replications: int
    counts: Counts

    def sentences(self) -> list[str]:
        """Say what is recommended, and how sure that is."""
        value, unit = self.best.objective, self.objective.unit
        told = [
            f"Recommended: {self.best.candidate.label}; {self.objective.kind} {value.value:,.4g} {unit} "
            f"[{value.low:,.4g}, {value.high:,.4g}].",
            f"It holds in {len(self.best.verdict.scenarios)} scenario(s) with {self.confidence:.0%} confidence each, "
            f"over all candidates together: each was judged at {self.confidence_each:.2%} over {self.replications} "
            "nights.",
        ]
        if self.counts.undecided:
            told.append(
                f"{self.counts.undecided} that promised more could not be settled: more nights could show that they "
                "hold."
            )
        if self.runner_up is None or self.lead is None:
            return [*told, "There is no runner-up: no other candidate that was simulated holds."]
        told.append(
            f"Runner-up: {self.runner_up.candidate.label}; worse by {self.lead.value:,.3g} {unit} "
            f"[{self.lead.low:,.3g}, {self.lead.high:,.3g}] on the same nights."
        )
        n = 1 + 1 + len(self.others)
        if self.selection_confidence == self.selection_confidence:  # not NaN
            told.append(
                f"Of the {n} that were found to hold it is the best, or within {self.indifference:.3g} {unit} of it, "
                f"with probability {self.selection_confidence:.0%} at least."
            )
        else:
            told.append(f"The nights do not tell the {n} that hold apart; nothing is guaranteed of their order.")
        return told

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; the same search gives the same bytes."""
        return {
            "format": 1,
            "answer": "recommended",
            "objective": self.objective.kind,
            "unit": self.objective.unit,
            "sentences": self.sentences(),
            "best": self.best.to_dict(),
            "runner_up": None if self.runner_up is None else self.runner_up.to_dict(),
            "others": [other.to_dict() for other in self.others],
            "lead": None if self.lead is None else self.lead.to_dict(),
            "selection_confidence": self.selection_confidence,
            "indifference": self.indifference,
            "confidence": self.confidence,
            "confidence_each": self.confidence_each,
            "replications": self.replications,
            "counts": asdict(self.counts),
        }


@dataclass(frozen=True)
class Refusal:
    """
    No candidate holds.

    Attributes
    ----------
    answer : FAILS, or UNDECIDED when more nights could show that one holds
    binds : for how many candidates which requirement binds, in words
    nearest : the nearest miss; None when no combination is a plan
    reason : which requirement the nearest misses, in a sentence
    remedy : what would make it fit, in a sentence
    """

    answer: Answer
    binds: dict[str, int]
    nearest: Candidate | None
    reason: str
    remedy: str
    counts: Counts

    def sentences(self) -> list[str]:
        """Say what binds, and what would make it fit."""
        n = self.counts.combinations
        verb = "holds" if self.answer is Answer.FAILS else "can be said to hold"
        binding = "; ".join(f"{count} × {what}" for what, count in self.binds.items())
        told = [f"No plan is recommended: none of {n} {verb}." + (f" What binds: {binding}." if binding else "")]
        where = "" if self.nearest is None else f"Nearest miss: {self.nearest.label}: "
        return [*told, f"{where}{self.reason}.", f"What would make it fit: {self.remedy}."]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "format": 1,
            "answer": "refused" if self.answer is Answer.FAILS else self.answer.value,
            "sentences": self.sentences(),
            "binds": self.binds,
            "nearest": None if self.nearest is None else self.nearest.to_dict(),
            "reason": self.reason,
            "remedy": self.remedy,
            "counts": asdict(self.counts),
        }
