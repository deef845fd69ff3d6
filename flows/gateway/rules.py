"""The rules of the two slots, as plain functions: who may take traffic, and what each control call makes of it."""

from collections.abc import Collection
from datetime import datetime

from flows.adapters.flags import SLOTS, Slot, Traffic, other_slot
from simulation.errors import LullError


class Refused(LullError):
    """A control call that the rules do not allow now; the message says when they would."""


def may_load(slot: Slot, traffic: Traffic | None) -> None:
    """
    Raise `Refused` if the slot takes traffic; a slot is filled and emptied only while nobody is answered from it.

    Custom targeting counts as traffic for both slots, since nobody here can say whom it names.
    """
    if traffic is None:
        return
    if traffic.live == slot:
        raise Refused(f"slot {slot} is live; use {other_slot(slot)}, or switch to it first")
    if traffic.is_custom:
        raise Refused(
            f"the flag file carries targeting of its own and may name slot {slot}; remove it, or switch first"
        )
    if traffic.other_weight:
        raise Refused(f"slot {slot} answers {traffic.other_ratio:.2%} of entities; set its share to 0 first")


def switched(traffic: Traffic | None, slot: Slot, warm: Collection[Slot], reason: str, at: datetime) -> Traffic:
    """Return the traffic after `slot` became live; raise `Refused` if it is not warm."""
    _must_be_warm(slot, warm)
    if traffic is None:
        return Traffic(slot, reason=reason, since=at)
    if traffic.live == slot:
        return Traffic(slot, previous=traffic.previous, reason=reason, since=at)
    return Traffic(slot, previous=traffic.live, reason=reason, since=at)


def shared(
    traffic: Traffic | None, slot: Slot, ratio: float, warm: Collection[Slot], salt: str, reason: str, at: datetime
) -> Traffic:
    """Return the traffic after the idle slot got this share; raise `Refused` if it may not."""
    live = _live(traffic)
    if live.live == slot:
        raise Refused(f"slot {slot} is live and takes what is left; name the share of {other_slot(slot)}")
    if not 0.0 <= ratio <= 1.0:
        raise Refused(f"the share of {slot} is {ratio!r}; it lies between 0 and 1")
    if live.is_custom:
        raise Refused("the flag file carries targeting of its own; remove it, or switch, before splitting anew")
    if ratio:
        _must_be_warm(slot, warm)
    # While a canary grows its salt stays: whoever was on the new version remains there.
    salt = live.salt if live.other_weight else salt
    return Traffic(live.live, ratio, previous=live.previous, salt=salt if ratio else "", reason=reason, since=at)


def rolled_back(
    traffic: Traffic | None, warm: Collection[Slot], reason: str, at: datetime
) -> tuple[Traffic, Slot, str]:
    """
    Return the traffic after a rollback, the slot it leaves, and what was done in words.

    A canary that runs is ended and the live slot keeps all; else the slot that was live before takes over.
    Afterwards there is no previous slot: a second rollback cannot bring the bad version back.
    """
    live = _live(traffic)
    if live.other_weight or live.is_custom:
        after = Traffic(live.live, previous=live.previous, reason=reason, since=at)
        return after, other_slot(live.live), f"canary ended; {live.live} keeps all traffic"
    if live.previous is None or live.previous == live.live:
        raise Refused(f"there is nothing to roll back to: no slot was live before {live.live} since it was loaded")
    _must_be_warm(live.previous, warm)
    after = Traffic(live.previous, reason=reason, since=at)
    return after, live.live, f"switched back from {live.live} to {live.previous}"


def without_way_back(traffic: Traffic | None, slot: Slot) -> Traffic | None:
    """Return the traffic once the content of `slot` is replaced: it is then no longer where a rollback leads."""
    if traffic is None or traffic.previous != slot:
        return traffic
    return Traffic(traffic.live, traffic.other_ratio, None, traffic.salt, traffic.reason, traffic.since)


def may_shadow(slot: Slot, traffic: Traffic | None, warm: Collection[Slot]) -> None:
    """Raise `Refused` unless the slot is warm and another one answers."""
    if _live(traffic).live == slot:
        raise Refused(f"slot {slot} is live; shadow {other_slot(slot)} instead")
    _must_be_warm(slot, warm)


def _must_be_warm(slot: Slot, warm: Collection[Slot]) -> None:
    if slot not in SLOTS:
        raise Refused(f"slots are named blue and green, not {slot!r}")
    if slot not in warm:
        raise Refused(f"slot {slot} is not warm; load a version into it and warm it first")


def _live(traffic: Traffic | None) -> Traffic:
    if traffic is None:
        raise Refused("no slot is live yet; load, warm and switch to one first")
    return traffic
