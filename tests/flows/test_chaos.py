"""The short form of `make chaos`: a few blows, and the same model, one challenger, no orphan, no lease held."""

from pathlib import Path

import pytest

from tests import chaos

pytestmark = pytest.mark.processes


def test_three_kills_at_random_instants_lose_nothing(tmp_path: Path) -> None:
    tally = chaos.campaign(tmp_path, kills=3, seed=11, kills_per_night=3)
    assert tally.n_kills == 3
    assert len(tally.digests) == 1
    assert tally.nights >= 1
