"""
The blue and the green slot of a running gateway, and every change to them; start at `Switchboard`.

Two files say all that a restart or a second worker process must know: the flag file who takes traffic, the slot file
what is in the slots. Both are looked at a few times a second, so that each worker follows within a second.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from flows.adapters.flags import (
    SLOTS,
    FlagFile,
    Flags,
    InvalidFlags,
    Slot,
    Traffic,
    choose_slot,
    other_slot,
)
from flows.gateway import rules
from flows.gateway.contract import SlotView
from flows.gateway.model_package import InvalidPackage, Model, load_package, try_package
from flows.gateway.parquet_log import REQUEST_COLUMNS
from flows.gateway.provider_split import ProviderSplit, UnusableProvider
from flows.gateway.rules import Refused
from flows.gateway.settings import GatewaySettings
from flows.gateway.slot_file import Filled, InvalidSlotFile, SlotFile
from simulation.errors import LullError

_log = logging.getLogger("lull.gateway")
_WARM_CALLS = 300


class NothingLive(Refused):
    """No slot can answer: nothing is loaded and warm yet."""


class NotSaved(LullError):
    """A change that could not be written to disk and therefore was not made; the message names the directory."""


class Loaded:
    """A model in a slot, with what it did since; requests hold on to it, so a replaced one still answers them."""

    def __init__(self, slot: Slot, model: Model) -> None:
        self.slot: Slot = slot
        self.model = model
        self.loaded_at = datetime.now(UTC)
        self.is_warm = False
        self.n_served = 0
        self.n_failed = 0
        self.in_flight = 0
        self.predict_p50_us: float | None = None
        self.predict_p99_us: float | None = None

    def warm(self) -> None:
        """Reproduce the canary batch and time single rows; raises `InvalidPackage` if a score differs."""
        self.model.check_canary()
        rows = self.model.canary.rows
        took_us = []
        for i in range(_WARM_CALLS):
            began = time.perf_counter()
            self.model.score(rows[i % len(rows)])
            took_us.append((time.perf_counter() - began) * 1e6)
        self.predict_p50_us, self.predict_p99_us = np.quantile(took_us, (0.5, 0.99)).tolist()

    def figures(self) -> dict[str, Any]:
        """Return what a `SlotView` tells of it."""
        model = self.model
        return {
            "is_loaded": True, "name": model.name, "version": model.version, "digest": model.digest,
            "path": str(model.path), "size_bytes": model.size_bytes, "is_warm": self.is_warm,
            "loaded_at": self.loaded_at, "n_served": self.n_served, "n_failed": self.n_failed,
            "in_flight": self.in_flight, "predict_p50_us": self.predict_p50_us, "predict_p99_us": self.predict_p99_us,
        }  # fmt: skip


class Switchboard:
    """
    Chooses the slot of each request and carries out the control calls.

    Control calls are coroutines of one event loop; whatever takes longer than a file write happens in threads.
    """

    def __init__(self, settings: GatewaySettings, flags: Flags | None = None) -> None:
        self._settings = settings
        self.flags: Flags = flags if flags is not None else FlagFile(settings.flag_path)
        self.loaded: dict[Slot, Loaded] = {}
        self.failures: dict[Slot, str] = {}
        self.traffic: Traffic | None = None
        self._unsaved: Traffic | None = None  # a rollback that the disk refused, written as soon as it can be
        self._slot_file = SlotFile(settings.state_path)
        self.schema_digest: str | None = None
        self.flag_problem = ""
        self.n_fallback = 0
        self._provider: ProviderSplit | None = None
        self._flags_seen: object = None
        self._slots_seen: object = None
        self._filling = asyncio.Lock()  # one load or warm-up at a time; may take seconds
        self._changing = asyncio.Lock()  # file writes only; all that a rollback ever waits for
        self.on_replaced: Callable[[Slot], None] = lambda slot: None

    # Requests

    def choose(self, entity: str) -> Loaded:
        """
        Return the loaded model that answers this entity.

        If the slot that the flag names is not warm here, the live slot answers, and failing that the other one:
        the request is counted as a fallback, not lost.
        """
        traffic = self.traffic
        if traffic is None:
            raise NothingLive("no slot is live yet; load, warm and switch to one first")
        provider = self._provider
        slot = choose_slot(traffic, entity) if provider is None else provider.choose(entity, traffic.live)
        chosen = self.loaded.get(slot)
        if chosen is not None and chosen.is_warm:
            return chosen
        self.n_fallback += 1
        for slot in (traffic.live, other_slot(traffic.live)):
            chosen = self.loaded.get(slot)
            if chosen is not None and chosen.is_warm:
                return chosen
        raise NothingLive(f"slot {traffic.live} is live and holds no warm model; load and warm one")

    @property
    def warm_slots(self) -> frozenset[Slot]:
        """Slots that may take traffic."""
        return frozenset(slot for slot, loaded in self.loaded.items() if loaded.is_warm)

    # Control calls

    async def load(self, slot: Slot, version: str, path: str, digest: str | None = None) -> None:
        """Read, check and place a package; on any error the slot stays as it was."""
        async with self._filling:
            rules.may_load(slot, self.traffic)
            directory = self._allowed(path)
            await asyncio.to_thread(try_package, directory)
            # A gateway serves one schema as long as any slot is filled: clients cannot tell the slots apart.
            wanted = self.schema_digest if any(other != slot for other in self.loaded) else None
            model = await asyncio.to_thread(
                load_package, directory, version=version, digest=digest, schema_digest=wanted
            )
            clashes = {name for name, _ in REQUEST_COLUMNS}.intersection(model.schema.names)
            if clashes:
                raise Refused(f"column {min(clashes)!r} has the name of a request log column; rename the feature")
            await self._place(slot, Loaded(slot, model))

    async def warm(self, slot: Slot) -> None:
        """Warm a loaded slot up; from then on it may take traffic."""
        async with self._filling:
            loaded = self.loaded.get(slot)
            if loaded is None:
                raise Refused(f"slot {slot} is empty; load a version into it first")
            await asyncio.to_thread(loaded.warm)
            async with self._changing:
                loaded.is_warm = True
                await self._save_slot(slot)

    async def unload(self, slot: Slot) -> None:
        """Empty an idle slot; requests still running on it keep their model until they are answered."""
        async with self._filling:
            if slot not in self.loaded:
                raise Refused(f"slot {slot} is empty already")
            await self._place(slot, None)

    async def split(self, slot: Slot, ratio: float, reason: str) -> None:
        """Give the idle slot a share of the entities."""
        loaded = self.loaded.get(slot)
        salt = f"{loaded.model.version}:" if loaded else ""
        await self._redirect(
            lambda traffic: rules.shared(traffic, slot, ratio, self.warm_slots, salt, reason, datetime.now(UTC))
        )

    async def switch(self, slot: Slot, reason: str) -> None:
        """Make a warm slot live."""
        await self._redirect(lambda traffic: rules.switched(traffic, slot, self.warm_slots, reason, datetime.now(UTC)))

    async def rollback(self, reason: str) -> tuple[Slot, str, bool]:
        """
        Leave the bad slot: in memory first, on disk after; return the bad slot, what was done, whether it was saved.

        A disk that refuses the write delays nobody: traffic has moved, and the answer says that it is not saved.
        """
        async with self._changing:
            after, bad_slot, action = rules.rolled_back(self.traffic, self.warm_slots, reason, datetime.now(UTC))
            self._obey(after)
            self._unsaved = after
            return bad_slot, action, await self._save_rollback()

    async def _save_rollback(self) -> bool:
        after = self._unsaved
        assert after is not None
        try:
            await asyncio.to_thread(self._change_flag, lambda traffic: after, tolerant=True)
        except OSError as error:
            self.flag_problem = f"a rollback is not on disk yet ({error}); a restart would undo it until it is"
            _log.error(self.flag_problem)
            return False
        self._unsaved = None
        self._read_flags()
        return True

    # What others changed

    async def restore(self) -> None:
        """Fill the slots as the files say; what cannot be read is told in `failures`, and nothing else suffers."""
        self._read_flags()
        await self._follow_slots()

    async def follow(self) -> None:
        """Look for changes by other processes until cancelled."""
        while True:
            await asyncio.sleep(self._settings.poll_s)
            try:
                async with self._changing:
                    if self._unsaved is not None:
                        await self._save_rollback()
                    elif self.flags.version() != self._flags_seen:
                        self._read_flags()
                if self._slot_file.version() != self._slots_seen and not self._filling.locked():
                    await self._follow_slots()
            except OSError as error:
                self.flag_problem = f"{self._settings.directory} cannot be read ({error}); traffic stays as it is"

    def views(self) -> dict[Slot, SlotView]:
        """Return both slots as they are now."""
        live = self.traffic.live if self.traffic else None
        views: dict[Slot, SlotView] = {}
        for slot in SLOTS:
            view = SlotView(slot=slot, is_live=slot == live, failure=self.failures.get(slot, ""))
            loaded = self.loaded.get(slot)
            views[slot] = view if loaded is None else view.model_copy(update=loaded.figures())
        return views

    def close(self) -> None:
        """Stop the provider's watcher, if one runs."""
        if self._provider is not None:
            self._provider.close()

    # Within

    async def _place(self, slot: Slot, loaded: Loaded | None) -> None:
        async with self._changing:
            with self._told_if_unsaved():
                await asyncio.to_thread(self._take_from_traffic, slot)
            self._read_flags()
            if loaded is None:
                del self.loaded[slot]
            else:
                self.loaded[slot] = loaded
                self.schema_digest = loaded.model.schema.digest()
            self.failures.pop(slot, None)
            self.on_replaced(slot)
            await self._save_slot(slot)

    def _take_from_traffic(self, slot: Slot) -> None:
        """Check again under the writers' lock, and cut the way back into a slot whose content goes away."""
        with self.flags.locked():
            traffic = self.flags.read()
            rules.may_load(slot, traffic)
            after = rules.without_way_back(traffic, slot)
            if after is not None and after != traffic:
                self.flags.write(after)

    async def _redirect(self, change: Callable[[Traffic | None], Traffic]) -> None:
        async with self._changing:
            with self._told_if_unsaved():
                await asyncio.to_thread(self._change_flag, change)
            self._read_flags()

    @contextmanager
    def _told_if_unsaved(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NotSaved(f"{self._settings.directory} cannot be written ({error}); nothing was changed") from error

    def _change_flag(self, change: Callable[[Traffic | None], Traffic], *, tolerant: bool = False) -> None:
        with self.flags.locked():
            self.flags.write(change(None if tolerant else self.flags.read()))

    def _read_flags(self) -> None:
        seen = self.flags.version()
        try:
            traffic = self.flags.read()
            if traffic is None and self.traffic is not None:
                raise InvalidFlags("the flag is gone from its file; traffic stays as it was")
            self._obey(traffic)
        except (InvalidFlags, UnusableProvider) as error:
            # A file broken by hand must not move traffic: the last good word counts until it is mended.
            self.flag_problem = str(error)
            _log.error(self.flag_problem)
        else:
            self.flag_problem = ""
        self._flags_seen = seen

    def _obey(self, traffic: Traffic | None) -> None:
        needs_provider = traffic is not None and (traffic.is_custom or self._settings.flag_provider is not None)
        if needs_provider and self._provider is None:
            self._provider = ProviderSplit(self._settings.flag_path, factory=self._settings.flag_provider)
        elif not needs_provider and self._provider is not None:
            self._provider.close()
            self._provider = None
        self.traffic = traffic

    def _allowed(self, path: str) -> Path:
        root = self._settings.models.resolve()
        directory = (root / path).resolve()
        if not directory.is_relative_to(root) or directory == root:
            raise Refused(f"{path} is not below the model root {root}; put the package there")
        return directory

    async def _save_slot(self, slot: Slot) -> None:
        try:
            await asyncio.to_thread(self._write_slot, slot)
        except OSError as error:
            # The slot serves as it is told to; only a restart would not know, so that is what is said.
            raise NotSaved(
                f"slot {slot} is changed, but {self._settings.state_path} cannot be written ({error}): a restart would "
                "undo it; mend the disk and repeat the call"
            ) from error

    def _write_slot(self, slot: Slot) -> None:
        loaded = self.loaded.get(slot)
        filled = None
        if loaded is not None:
            path = str(loaded.model.path.relative_to(self._settings.models.resolve()))
            filled = Filled(version=loaded.model.version, path=path, digest=loaded.model.digest, is_warm=loaded.is_warm)
        self._slot_file.put(slot, filled)
        self._slots_seen = self._slot_file.version()

    async def _follow_slots(self) -> None:
        async with self._filling:
            self._slots_seen = self._slot_file.version()
            try:
                wanted = self._slot_file.read()
            except InvalidSlotFile as error:
                self.failures = {slot: str(error) for slot in SLOTS if slot not in self.loaded}
                _log.error(str(error))
                return
            for slot in SLOTS:
                await self._follow_slot(slot, wanted.get(slot))

    async def _follow_slot(self, slot: Slot, wanted: Filled | None) -> None:
        here = self.loaded.get(slot)
        if wanted is None:
            if here is not None:
                del self.loaded[slot]
                self.on_replaced(slot)
            return
        try:
            if here is None or here.model.digest != wanted.digest:
                # Already tried in a child by whoever wrote the file; the digest says it is the same package.
                model = await asyncio.to_thread(
                    load_package, self._allowed(wanted.path), version=wanted.version, digest=wanted.digest
                )
                here = Loaded(slot, model)
            if wanted.is_warm and not here.is_warm:
                await asyncio.to_thread(here.warm)
                here.is_warm = True
        except (InvalidPackage, Refused) as error:
            self.failures[slot] = f"slot {slot} could not be filled again: {error}"
            _log.error(self.failures[slot])
            return
        if self.loaded.get(slot) is not here:
            self.loaded[slot] = here
            self.schema_digest = here.model.schema.digest()
            self.on_replaced(slot)
        self.failures.pop(slot, None)
