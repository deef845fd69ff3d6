"""The short form of `make canary-honesty`: false alarms inside their band, and the very rule that runs at night."""

import math

import numpy as np
import pytest
from scipy import stats

from flows import canary_honesty as honesty
from flows.domain.criteria import criteria_of
from flows.domain.gates import GateVerdict
from flows.domain.rollout import Latency, LiveEvidence, judge_rollout
from flows.domain.sequential import Scores, Shares, Split

N_NULL, N_EFFECT = 200, 40


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], honesty.Row]:
    """Return the rows of a short study by effect and rule."""
    return {(row.effect.name, row.rule): row for row in honesty.study(N_NULL, N_EFFECT, seed=2)}


def evidence_at(seen: honesty.Play, canary: int, look: int) -> LiveEvidence:
    """Return what the rule would be shown of one canary at one look."""
    (n_g, n_b), (f_g, f_b) = (tuple(int(part[canary, look]) for part in pair) for pair in (seen.taken, seen.failed))
    green, blue = (
        Scores(n, float(seen.total[i][canary, look]), float(seen.surprise[i][canary, look]))
        for i, n in enumerate((n_g, n_b))
    )
    splits, ended = [], 0
    for share, seconds in honesty.STEPS:
        if look >= ended:
            last = min(look, ended + seconds - 1)
            counts = [int(n[canary, last] - (n[canary, ended - 1] if ended else 0)) for n in seen.taken]
            splits.append(Split(share, *counts))
        ended += seconds
    losses = Scores(n_g + n_b, float(seen.losses[0][canary, look]), float(seen.losses[2][canary, look]))
    return LiveEvidence(
        Shares(n_g, f_g, n_b, f_b), n_g, f_g, splits=tuple(splits), losses=losses,
        latency=Latency(green, blue, honesty.CAP_MS),
    )  # fmt: skip


@pytest.mark.theory
@pytest.mark.parametrize("effect", honesty.EFFECTS, ids=[effect.name for effect in honesty.EFFECTS])
def test_the_study_raises_its_alarm_at_the_look_at_which_the_rule_of_the_night_does(effect: honesty.Effect) -> None:
    seen = honesty.play(np.random.default_rng(5), effect, 4)
    criteria = criteria_of(honesty.PLAN)
    for canary, first in enumerate(honesty.first_alarms(seen)["always valid"]):
        looks = {0, 50, 299, 300, 700, honesty.LOOKS - 1, int(first) - 1, int(first)}
        for look in sorted(look for look in looks if 0 <= look <= min(first, honesty.LOOKS - 1)):
            verdict = judge_rollout(evidence_at(seen, canary, look), criteria, is_last=False).verdict
            assert (verdict in (GateVerdict.ROLL_BACK, GateVerdict.PERSON)) == (look == first), (canary, look, first)


@pytest.mark.theory
def test_equal_models_raise_no_more_alarms_than_alpha_over_the_whole_canary(
    rows: dict[tuple[str, str], honesty.Row],
) -> None:
    most = stats.binom.ppf(0.999, N_NULL, honesty.PLAN.evidence.alpha)
    assert len(rows["none (A/A)", "always valid"].alarms_s) <= most
    # The band would catch a rule that looks too often: the ordinary test on the same requests is far outside.
    assert len(rows["none (A/A)", "5 % test at each look"].alarms_s) > 3 * most
    assert not honesty.is_honest(rows["none (A/A)", "5 % test at each look"])


@pytest.mark.theory
@pytest.mark.parametrize(
    "effect", ["failures ×2", "failures ×5", "calibration slope 0.8", "latency +30 %", "split 12 % for 10 %"]
)
def test_an_effect_worth_a_rollback_is_found_in_almost_every_canary(
    rows: dict[tuple[str, str], honesty.Row], effect: str
) -> None:
    assert len(rows[effect, "always valid"].alarms_s) >= stats.binom.ppf(0.001, N_EFFECT, 0.95)


@pytest.mark.theory
def test_a_larger_effect_is_found_sooner(rows: dict[tuple[str, str], honesty.Row]) -> None:
    delays = [rows[name, "always valid"].median_s for name in ("failures ×5", "failures ×2")]
    assert delays[0] < delays[1]
    delays = [rows[name, "always valid"].median_s for name in ("latency +30 %", "latency +10 %")]
    assert delays[0] < delays[1]
    assert math.isnan(rows["failures +20 %", "always valid"].median_s)


@pytest.mark.theory
def test_the_same_seed_plays_the_same_canaries() -> None:
    one, two = (honesty.play(np.random.default_rng(3), honesty.EFFECTS[0], 2) for _ in range(2))
    assert (one.failed[0] == two.failed[0]).all()
    assert (one.losses[2] == two.losses[2]).all()


def test_the_median_counts_canaries_without_an_alarm_as_never() -> None:
    effect = honesty.EFFECTS[0]
    assert honesty.Row(effect, "r", 3, (5, 9)).median_s == 9
    assert math.isnan(honesty.Row(effect, "r", 4, (5,)).median_s)


@pytest.mark.parametrize(("alarms", "keeps"), [(13, True), (29, True), (30, False), (50, False)])
def test_the_risk_is_kept_only_if_it_is_surely_kept(alarms: int, keeps: bool) -> None:
    assert honesty.is_honest(honesty.Row(honesty.EFFECTS[0], "r", 1000, (1,) * alarms)) is keeps
