"""Compiling ahead: after it nothing is compiled for an ordinary night."""

import pytest
from numba import config

from simulation.compile_kernels import compile_all
from simulation.data_plane import pool_look
from simulation.data_plane.pool_changes import COMPILED


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled without the compiler")
def test_every_entry_point_of_the_pool_is_compiled_ahead() -> None:
    assert compile_all() >= 0.0
    lacking = [name for name, function in COMPILED._asdict().items() if not function.signatures]
    assert lacking == []
    assert pool_look._news.signatures
