"""The split as an OpenFeature provider evaluates it: used for targeting that Lull did not write, and in tests."""

import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from flows.adapters.flags import FLAG_KEY, SLOTS, Slot
from simulation.errors import LullError


class UnusableProvider(LullError):
    """An OpenFeature provider that cannot be made or does not get ready; the message names it."""


class ProviderSplit:
    """
    Chooses slots by the OpenFeature client, whatever provider stands behind it.

    By default flagd's in-process file provider, which looks at the file five times a second; `factory` names another
    one as ``module:callable`` taking no arguments.
    """

    _n_made = 0
    _lock = threading.Lock()

    def __init__(self, flag_path: Path, *, factory: str | None = None) -> None:
        # Imported here: the gateway starts without gRPC unless somebody's own targeting needs it.
        from openfeature import api
        from openfeature.evaluation_context import EvaluationContext
        from openfeature.exception import OpenFeatureError

        with ProviderSplit._lock:
            ProviderSplit._n_made += 1
            self._domain = f"lull-gateway-{ProviderSplit._n_made}"
        self._context = EvaluationContext
        self._provider = _flagd(flag_path) if factory is None else _made_by(factory)
        try:
            api.set_provider_and_wait(self._provider, self._domain)
        except OpenFeatureError as error:
            raise UnusableProvider(f"flag provider {factory or flag_path} does not get ready ({error})") from error
        self._client = api.get_client(self._domain)

    def choose(self, entity: str, default: Slot) -> Slot:
        """Return the slot the flag names for this entity; `default` when it names none or cannot be evaluated."""
        name = self._client.get_string_value(FLAG_KEY, default, self._context(entity))
        return next((slot for slot in SLOTS if slot == name), default)

    def close(self) -> None:
        """Stop the provider's watcher."""
        self._provider.shutdown()


def _flagd(flag_path: Path) -> Any:
    from openfeature.contrib.provider.flagd import FlagdProvider
    from openfeature.contrib.provider.flagd.config import ResolverType

    # For a file `deadline_ms` is the pause between two looks at it.
    return FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(flag_path), deadline_ms=200)


def _made_by(factory: str) -> Any:
    module, _, name = factory.partition(":")
    try:
        return getattr(import_module(module), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise UnusableProvider(f"flag provider {factory!r} cannot be made ({error}); write module:callable") from error
