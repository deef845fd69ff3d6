"""Top up: keep a run for each of the next openings, as no schedule in local time survives a change of clocks."""

import datetime as dt
import os
from typing import Any

from prefect import flow, get_run_logger
from prefect.states import Completed

from flows.adapters.orchestrator import Orchestrator
from flows.openings_ahead import plan_ahead, plan_calendar
from flows.settings import Settings
from simulation.plan_file import read_plan


@flow(name="top-up", log_prints=True)
def top_up() -> Any:
    """Make the runs that are missing, and take back those that the calendar now denies."""
    settings = Settings.from_environment(os.environ)
    deployed, now = settings.home / "deployed", dt.datetime.now(dt.UTC)
    plan = read_plan(deployed / "plan.yaml")
    runs = Orchestrator(settings.prefect_api_url, os.environ, settings.logs)
    ahead = plan_ahead(runs, plan, plan_calendar(plan, deployed, now), now)
    get_run_logger().info(ahead.sentence())
    return Completed(message=ahead.sentence())
