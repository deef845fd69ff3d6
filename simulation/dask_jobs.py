"""
The same trials on a Dask cluster, in the same order, byte for byte. Start at `play_on_dask`.

`distributed` is an optional extra and imported when it is asked for.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any

from simulation.code_version import code_digest, package_versions
from simulation.errors import LullError
from simulation.result import Trial
from simulation.trial_jobs import Setting, TrialJob

_CONNECT_S = 10
_WORKERS_S = 60  # an adaptive cluster starts its first worker when work is there
_AHEAD = 1000  # jobs handed over and not yet returned: enough for hundreds of workers, little memory


class DaskUnavailable(LullError):
    """A cluster that cannot play the trials; the sentence says why and what to do."""


def play_on_dask(setting: Setting, jobs: Sequence[TrialJob], cluster: Any) -> Iterator[Trial]:
    """
    Yield the trials in the order of the jobs, played by the workers of a cluster.

    Parameters
    ----------
    cluster : address of a scheduler, such as "tcp://10.0.0.5:8786", or a `distributed.Client`
        A client is left open, one made here is closed.

    Raises
    ------
    DaskUnavailable
        If `distributed` is not installed, nobody answers at the address, no worker comes, or a worker has another
        version of the simulator or of the packages that it computes with: then bytes could differ.

    Notes
    -----
    What all trials share is sent once, as a task: a worker that is lost takes nothing with it that Dask cannot make
    again. Errors of a trial are raised here as they are in threads.
    """
    with _client(cluster) as client:
        try:
            client.wait_for_workers(1, timeout=_WORKERS_S)
        except TimeoutError:
            raise DaskUnavailable(
                f"no worker came to {_name(cluster)} within {_WORKERS_S} s; start one with `dask worker ADDRESS`"
            ) from None
        yield from _in_order(client, setting, jobs)


def _in_order(client: Any, setting: Setting, jobs: Sequence[TrialJob]) -> Iterator[Trial]:
    expected = _code_here()
    shared = client.submit(_itself, setting, pure=False)
    waiting: list[Any] = []
    left = iter(jobs)
    try:
        while True:
            while len(waiting) < _AHEAD and (job := next(left, None)) is not None:
                waiting.append(client.submit(_play, shared, job, expected, pure=False))
            if not waiting:
                return
            yield _result(waiting.pop(0))
    finally:
        client.cancel([*waiting, shared])


def _result(future: Any) -> Trial:
    """Return what a worker made of a job; its own sentences pass, what Dask says is explained."""
    distributed = import_module("distributed")
    try:
        trial: Trial = future.result()
    except distributed.KilledWorker as problem:
        raise DaskUnavailable(f"workers died while they played a night ({problem}); give them more memory") from problem
    except (ImportError, RuntimeError) as problem:
        # Dask wraps whatever it cannot unpack in a RuntimeError that says so.
        if isinstance(problem, RuntimeError) and "deserializ" not in str(problem):
            raise
        raise DaskUnavailable(
            f"the cluster cannot load the trials ({problem}); install this version of lull on the scheduler and on "
            "every worker"
        ) from problem
    return trial


@contextmanager
def _client(cluster: Any) -> Iterator[Any]:
    try:
        distributed = import_module("distributed")
    except ImportError:
        raise DaskUnavailable("Dask is not installed; install lull[dask], or leave --dask out") from None
    if not isinstance(cluster, str):
        yield cluster
        return
    try:
        client = distributed.Client(cluster, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as problem:
        raise DaskUnavailable(
            f"no Dask scheduler answers at {cluster!r} ({type(problem).__name__}); give an address such as "
            "tcp://10.0.0.5:8786, or leave --dask out"
        ) from None
    try:
        yield client
    finally:
        client.close()


def _name(cluster: Any) -> str:
    return cluster if isinstance(cluster, str) else "the client's cluster"


# What runs on the workers ------------------------------------------------------------------------------------------


def _itself(setting: Setting) -> Setting:
    return setting


def _play(setting: Setting, job: TrialJob, expected: dict[str, str]) -> Trial:
    """Play one night if this worker computes with the very code that the caller has."""
    here = _code_here()
    other = [name for name in expected if here.get(name) != expected[name]]
    if other:
        told = ", ".join(f"{name} {here.get(name, 'absent')[:12]} instead of {expected[name][:12]}" for name in other)
        raise DaskUnavailable(f"a worker has other code ({told}); install the same versions on every worker")
    return setting.play(job)


@lru_cache(maxsize=1)
def _code_here() -> dict[str, str]:
    """Return what the bytes of a trial depend on, read once per process."""
    return {"simulation": code_digest(), **package_versions()}
