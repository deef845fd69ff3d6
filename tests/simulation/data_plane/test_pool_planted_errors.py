"""The tests are tested: each error planted in the source of the event-heap pool is caught by its plain twin."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.data_plane import pool_kernel

ROOT = Path(__file__).parents[3]
FOLDER = Path(pool_kernel.__file__).parent

PLANTED = {
    "one retry too many": ("pool_kernel", "attempt < i[at.RETRIES]", "attempt <= i[at.RETRIES]"),
    "any failure may be retried": ("pool_kernel", "i[at.RETRY_ON] & reason and ", ""),
    "the budget is not spent": ("pool_kernel", "f[at.TOKENS] -= 1.0", "f[at.TOKENS] -= 0.0"),
    "half a token buys a retry": ("pool_kernel", "if f[at.TOKENS] >= 1.0:", "if f[at.TOKENS] >= 0.5:"),
    "jitter only lengthens": ("pool_kernel", "(2.0 * uniform_of(bits) - 1.0)", "(2.0 * uniform_of(bits))"),
    "retries lose their first arrival": (
        "pool_kernel", "f[retry + at.FIRST_AT] = f[slot + at.FIRST_AT]", "f[retry + at.FIRST_AT] = now_s"
    ),
    "the same draw for every attempt": (
        "pool_kernel", "attempt = i[slot + at.ATTEMPT] + (i[slot + at.RESTARTS] << 32)", "attempt = 0"
    ),
    "evicted work is not drawn anew": (
        "pool_kernel", "i[slot + at.ATTEMPT] + (i[slot + at.RESTARTS] << 32)", "i[slot + at.ATTEMPT]"
    ),
    "slowdown is forgotten": ("pool_kernel", "now_s + work_s * cold * pace if", "now_s + work_s * cold if"),
    "cold starts cost nothing": ("pool_kernel", "cold = f[at.COLD_SLOWDOWN]", "cold = 1.0"),
    "a client that left is served": ("pool_kernel", "drops = i[at.CANCELLATION] == at.CANCEL_AT_START", "drops = 0"),
    "the rate limit is one too many": ("pool_kernel", "if f[at.RATE_TOKENS] < 1.0:", "if f[at.RATE_TOKENS] < 0.0:"),
    "the breaker never closes": ("pool_kernel", "i[at.BREAKER] = at.CLOSED", "i[at.BREAKER] = at.OPEN"),
    "the longest line is chosen": (
        "pool_kernel", "if _load(f, i, station) < _load(f, i, best):", "if _load(f, i, station) > _load(f, i, best):"
    ),
    "a later end is taken for the next": (
        "pool_structures", "is_beaten = (rival_s < finish_s)", "is_beaten = (rival_s > finish_s)"
    ),
    "rescaling stretches what is done": (
        "pool_changes", "finish_s = now_s + remaining_s * (pace / old)", "finish_s = now_s + remaining_s * pace"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def verdicts() -> dict[str, bool]:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    # Some installed package brings a `tests` of its own; this one has no __init__ and would lose.
    code = (
        "import sys, types; package = types.ModuleType('tests'); "
        f"package.__path__ = [{str(ROOT / 'tests')!r}]; sys.modules['tests'] = package\n"
        "from tests.simulation.data_plane.plant_pool_errors import main; main()"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout.splitlines()[-1]))


@pytest.mark.parametrize("error", PLANTED)
def test_the_source_still_says_what_an_error_replaces(error):
    module, old, _ = PLANTED[error]
    assert old in (FOLDER / f"{module}.py").read_text(encoding="utf-8"), "plant this error anew"


@pytest.mark.theory
def test_the_pool_as_it_stands_passes(verdicts):
    assert not verdicts["as it stands"]


@pytest.mark.theory
@pytest.mark.parametrize("error", PLANTED)
def test_a_planted_error_is_caught(error, verdicts):
    assert verdicts[error]
