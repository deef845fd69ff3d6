"""One running gateway put together: switchboard, score endpoint, shadow, logs and counters."""

import asyncio
import gc
import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from flows.adapters.flags import Flags, Slot, other_slot
from flows.gateway import rules
from flows.gateway.admission import Admission, RateLimit
from flows.gateway.contract import GatewayState, RolledBack, ShadowResults
from flows.gateway.metrics import Metrics
from flows.gateway.parquet_log import (
    OUTCOME_COLUMNS,
    REQUEST_COLUMNS,
    SHADOW_COLUMNS,
    ColumnKind,
    LogLimits,
    ParquetLog,
)
from flows.gateway.scoring import ScoreEndpoint
from flows.gateway.settings import GatewaySettings
from flows.gateway.shadow import NO_SHADOW, Shadow
from flows.gateway.slots import Switchboard

_log = logging.getLogger("lull.gateway")
_DRAIN_S = 1.0


class Runtime:
    """
    What the HTTP calls act on.

    Parameters
    ----------
    settings
        Limits and places.
    flags
        Where the traffic flag is kept; by default the flag file below `settings.home`.
    """

    def __init__(self, settings: GatewaySettings, flags: Flags | None = None) -> None:
        self.settings = settings
        self.board = Switchboard(settings, flags)
        rate = settings.rate_limit_rps
        limit = RateLimit(rate, settings.rate_burst) if rate is not None else None
        self.admission = Admission(settings.max_reading, settings.max_waiting, limit)
        self.metrics = Metrics()
        self.score = ScoreEndpoint(settings, self.board, self.admission, self.metrics)
        self.started_at = datetime.now(UTC)
        self._limits = LogLimits(
            rows_per_file=settings.log_rows_per_file,
            max_age_s=settings.log_max_age_s,
            max_buffered_rows=settings.log_max_buffered_rows,
            max_bytes=settings.log_max_bytes,
        )
        self.outcomes = ParquetLog(self._log_directory("outcomes"), "outcomes", OUTCOME_COLUMNS, self._limits)
        self._shadow_log = ParquetLog(self._log_directory("shadows"), "shadows", SHADOW_COLUMNS, self._limits)
        self._shadow: Shadow | None = None
        self._log_schema: str | None = None
        self._log_counts_before = (0, 0)
        self._follower: asyncio.Task[None] | None = None
        self.board.on_replaced = self._slot_replaced

    async def start(self) -> None:
        """Fill the slots as they were, start the writers and follow the files."""
        self.outcomes.start()
        self._shadow_log.start()
        await self.board.restore()
        self._open_request_log()
        self._follower = asyncio.create_task(self.board.follow())
        # What was made until here stays: the collector need not look at it again beside requests.
        gc.freeze()

    async def stop(self) -> None:
        """Stop following, end the shadow and write what the logs still hold."""
        if self._follower is not None:
            self._follower.cancel()
        self._end_shadow(wait_s=0.5)
        self.score.close()
        self.board.close()
        for log in self._logs():
            await asyncio.to_thread(log.close)

    async def load(self, slot: Slot, version: str, path: str, digest: str | None) -> GatewayState:
        """Load a package into an idle slot."""
        await self.board.load(slot, version, path, digest)
        return self.state()

    def start_shadow(self, slot: Slot, max_requests: int) -> None:
        """Score the other slot's requests with this one too, from now on and from zero."""
        rules.may_shadow(slot, self.board.traffic, self.board.warm_slots)
        self._end_shadow()
        self._shadow = self.score.shadow = Shadow(
            slot,
            self.board.loaded[slot].model,
            max_requests=max_requests,
            max_waiting=self.settings.shadow_max_waiting,
            record=lambda request_id, slot, version, score: self._shadow_log.append(
                (request_id, time.time_ns() // 1000, slot, version, score)
            ),
        )

    def stop_shadow(self) -> None:
        """Stop; the results stay until the next start."""
        self._end_shadow(wait_s=0.2)

    def shadow_results(self, *, include_scores: bool) -> ShadowResults:
        """Return what the last shadow saw."""
        return NO_SHADOW if self._shadow is None else self._shadow.results(include_scores=include_scores)

    async def rollback(self, reason: str) -> RolledBack:
        """Move traffic off the bad slot and wait until its last request is answered."""
        began_s = time.perf_counter()
        bad_slot, action, is_saved = await self.board.rollback(reason)
        bad = self.board.loaded.get(bad_slot)
        while bad is not None and bad.in_flight and time.perf_counter() - began_s < _DRAIN_S:
            await asyncio.sleep(0.005)
        return RolledBack(
            state=self.state(),
            bad_slot=bad_slot,
            bad_version=bad.model.version if bad else None,
            action=action,
            took_ms=(time.perf_counter() - began_s) * 1000.0,
            is_saved=is_saved,
        )

    async def flush(self) -> int:
        """Write the rows that the logs hold in memory; return how many."""
        return sum([await asyncio.to_thread(log.flush) for log in self._logs()])

    def is_ready(self) -> bool:
        """Whether somebody warm can answer."""
        return self.board.traffic is not None and bool(self.board.warm_slots)

    def problems(self) -> list[str]:
        """Return what an operator should look at, in sentences."""
        board = self.board
        problems = [board.flag_problem, *board.failures.values(), *(log.problem for log in self._logs())]
        traffic = board.traffic
        if traffic is not None and traffic.live not in board.warm_slots:
            problems.append(f"slot {traffic.live} is live and not warm; {other_slot(traffic.live)} answers if it can")
        if self._follower is not None and self._follower.done():
            problems.append("changes by other processes are no longer followed; restart the gateway")
        return [problem for problem in problems if problem]

    def state(self) -> GatewayState:
        """Return everything at this moment."""
        board, score, traffic = self.board, self.score, self.board.traffic
        log = score.log
        n_rows, n_dropped = self._log_counts_before
        return GatewayState(
            live=traffic.live if traffic else None,
            previous=traffic.previous if traffic else None,
            split={slot: traffic.share(slot) for slot in ("blue", "green")} if traffic else {},
            is_custom_split=traffic.is_custom if traffic else False,
            reason=traffic.reason if traffic else "",
            since=traffic.since if traffic else None,
            slots=board.views(),
            shadow=self._shadow.slot if self._shadow is not None and self._shadow.is_on else None,
            schema_digest=board.schema_digest,
            n_served=score.n_served,
            n_failed=score.n_failed,
            n_refused=score.n_refused,
            n_shed=self.admission.n_shed,
            n_fallback=board.n_fallback,
            n_log_rows=n_rows + (log.n_rows if log else 0),
            n_log_rows_dropped=n_dropped + (log.n_dropped if log else 0),
            n_outcomes=self.outcomes.n_rows,
            problems=self.problems(),
            pid=os.getpid(),
            started_at=self.started_at,
        )

    def _logs(self) -> list[ParquetLog]:
        logs = [self.outcomes, self._shadow_log]
        return logs if self.score.log is None else [self.score.log, *logs]

    def _log_directory(self, name: str) -> Path:
        return self.settings.directory / name

    def _end_shadow(self, *, wait_s: float = 0.0) -> None:
        self.score.shadow = None
        if self._shadow is not None:
            self._shadow.close(wait_s=wait_s)

    def _slot_replaced(self, slot: Slot) -> None:
        self._end_shadow()
        self._open_request_log()

    def _open_request_log(self) -> None:
        """Open the log once there is a schema, and anew for another one: its columns are the features."""
        schemas = [loaded.model.schema for loaded in self.board.loaded.values()]
        if not schemas or schemas[0].digest() == self._log_schema:
            return
        old = self.score.log
        if old is not None:
            self._log_counts_before = (
                self._log_counts_before[0] + old.n_rows,
                self._log_counts_before[1] + old.n_dropped,
            )
            old.close()
        kinds: dict[str, ColumnKind] = {"number": "number", "category": "text"}
        features = [(column.name, kinds[column.kind]) for column in schemas[0].columns]
        log = ParquetLog(self._log_directory("requests"), "requests", (*REQUEST_COLUMNS, *features), self._limits)
        log.start()
        self.score.log, self._log_schema = log, schemas[0].digest()
