"""A fine-tune from its request to its end, told on a console as it goes."""

import time
from itertools import takewhile
from typing import Any

import httpx
from rich.console import Console

from common.errors import UserError
from services.local.api import Api

STEPS_A_LINE = 10
PATIENCE = 60
"""Looks in a row that may get no answer."""
ENDS = ("succeeded", "failed", "cancelled")


def follow(api: Api, job: dict[str, Any], console: Console) -> str:
    """Show what happens to ``job`` until it ends; the version that came of it.

    Raises:
        UserError: it failed or was cancelled; the sentence is the job's own.
    """
    seen, lost = "", 0
    while job["status"] not in ENDS:
        time.sleep(1)
        try:
            seen = show_events(api, job["id"], seen, console)
            job = api.get(f"/v1/fine_tuning/jobs/{job['id']}")
            lost = 0
        except httpx.TransportError:
            lost += 1  # the job goes on; a proxy or control itself may be starting again
            if lost > PATIENCE:
                raise
    show_events(api, job["id"], seen, console)
    if job["status"] != "succeeded":
        raise UserError(f"the fine-tune {job['id']} {job['status']}: {(job['error'] or {}).get('message')}")
    return str(job["fine_tuned_model"])


def show_events(api: Api, job: str, last: str, console: Console) -> str:
    """Print the job's events since the one with id ``last``; the id of the newest."""
    newest_first = api.get(f"/v1/fine_tuning/jobs/{job}/events?limit=100")["data"]
    fresh = list(takewhile(lambda event: event["id"] != last, newest_first))
    for event in reversed(fresh):
        if event["type"] != "metrics" or event["data"]["step"] % STEPS_A_LINE == 0:
            console.print(f"   {event['message']}", highlight=False)
    return fresh[0]["id"] if fresh else last
