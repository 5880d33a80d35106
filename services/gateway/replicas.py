"""The replicas behind one endpoint, and which of them a request goes to."""

from collections.abc import Collection, Iterator, Sequence

from services.gateway import metrics
from services.gateway.replica import Model, Replica, Wanted

# How many more requests than the quietest a conversation's own replica may have, which has its prefix cached.
SLACK = 2
SLACK_SHARE = 0.25


class Replicas:
    """The replicas known now, by name.

    Whatever changes what can be picked says so by ``changed``: picking works on lists made once for a model.
    """

    def __init__(self) -> None:
        self._all: dict[str, Replica] = {}
        self._gone: dict[str, Model] = {}
        self._kinds: dict[str, Sequence[Sequence[Replica]]] = {}

    def __iter__(self) -> Iterator[Replica]:
        return iter(list(self._all.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._all

    def add(self, replica: Replica) -> None:
        """A replica that was not there before."""
        self._all[replica.name] = replica
        metrics.watch_replica(replica)
        self.changed()

    def remove(self, replica: Replica) -> None:
        """No new requests from now on; those under way go on."""
        replica.is_listed = False
        del self._all[replica.name]
        self._gone.update({str(model.get("id")): model for model in replica.models or ()})
        metrics.forget_replica(replica)
        self.changed()

    def changed(self) -> None:
        """Something about a replica is different."""
        self._kinds.clear()

    def pick(self, wanted: Wanted, tried: Collection[Replica] = ()) -> Replica | None:
        """The replica for a request, one that was not ``tried``; None when there is none."""
        kinds = self._kinds.get(wanted.model)
        if kinds is None:
            kinds = self._kinds[wanted.model] = self._find(wanted)
        for kind in kinds:
            ready = [replica for replica in kind if replica not in tried] if tried else kind
            if ready:
                return _choose(ready, wanted.key)
        return None

    def is_elsewhere(self, replica: Replica) -> bool:
        """Whether what waits at ``replica`` could be asked of another that has the same base."""
        others = (other for other in self if other is not replica and other.is_up)
        return any(other.serves(base) for other in others for base in replica.bases)

    def models(self) -> list[Model] | None:
        """The base models that are served, or were by a replica that went; None when none is known of."""
        listed = {
            str(model.get("id")): model for replica in self._all.values() for model in replica.models or ()
        }
        known = any(replica.models is not None for replica in self._all.values())
        return [*({**self._gone, **listed}).values()] if known or self._gone else None

    def _find(self, wanted: Wanted) -> Sequence[Sequence[Replica]]:
        """Those that a request for ``wanted`` may go to, the best kind first, and no kind that is empty."""
        known = [replica for replica in self._all.values() if replica.serves(wanted.base)]
        if not known and not wanted.is_adapter:
            # A server may answer to a name that it does not list; if it does not, it says so.
            return [[replica for replica in self._all.values() if replica.is_up]]
        fit = [
            replica
            for replica in known
            if replica.health != "draining" and wanted.model not in replica.refused
        ]
        up = [replica for replica in fit if replica.is_up]
        warm = [replica for replica in up if wanted.model in replica.warm]
        cold = [replica for replica in up if wanted.model not in replica.warm]
        slow = [replica for replica in fit if replica.health == "silent" and not replica.breaker.is_open]
        # Better than to refuse a request, when there is nobody else to ask.
        doubtful = [replica for replica in fit if replica.breaker.is_open or replica.takes_any]
        return [kind for kind in (warm, cold, slow, doubtful) if kind]


def _choose(ready: Sequence[Replica], key: str) -> Replica:
    """The least busy, but for the conversation's own replica, which may be a little busier than that."""
    if len(ready) == 1:
        return ready[0]
    quietest = min(replica.in_flight for replica in ready)
    limit = quietest + max(SLACK, SLACK_SHARE * quietest)
    return max((replica for replica in ready if replica.in_flight <= limit), key=lambda each: each.rank(key))
