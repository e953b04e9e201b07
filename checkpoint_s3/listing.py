"""Lists checkpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import itemgetter

from checkpoint_base.keys import NamespaceKey
from checkpoint_base.metadata import has_terms
from checkpoint_base.records import ListQuery, StoredCheckpoint
from checkpoint_base.transport import Operation
from checkpoint_s3.groups import Group
from checkpoint_s3.layout import segment_text
from checkpoint_s3.reader import Reader, candidates
from checkpoint_s3.transport import List


class Lister:
    """Lists checkpoints.

    Args:
        reader: what the store reads with; its surveyor is what it lists with.
    """

    def __init__(self, reader: Reader) -> None:
        self._surveyor = reader.surveyor
        self._reader = reader

    def list(self, query: ListQuery) -> Operation[Sequence[StoredCheckpoint]]:
        """`CheckpointStore.list`."""
        wanted = yield from self._listing(query)
        page: list[StoredCheckpoint] = []
        for some in candidates(wanted, page, query):
            if query.terms or not query.contents:
                heads = yield from self._reader.heads([group.existing for group in some])
                matching = [
                    (group, head.record)
                    for group, head in zip(some, heads, strict=True)
                    if has_terms(head.record.terms, query.terms)
                ]
                matching = matching[: query.limit - len(page)]
                if not query.contents:
                    page += [StoredCheckpoint(record, {}, (), {}) for _, record in matching]
                    continue
                some = [group for group, _ in matching]
            page += yield from self._reader.contents(some)
        return page

    def _listing(self, query: ListQuery) -> Operation[Sequence[Group]]:
        """The visible checkpoints that match a query except for its terms, in its order."""
        surveyed = yield from self._surveyed(query)
        visible = [group for group in surveyed if group.visible]
        after = query.after.list_order if query.after else None
        # Where a segment is only a digest, an object tells its namespace. That matters only to the order of those with
        # the same id, and a thread may have thousands of namespaces.
        ids = Counter((group.checkpoint_id, group.thread_id) for group in visible)
        if after is not None:
            ids[after[:2]] += 1
        examples = {
            (group.thread_id, group.space): group.existing
            for group in visible
            if ids[group.checkpoint_id, group.thread_id] > 1 and segment_text(group.space) is None
        }
        heads = yield from self._reader.heads([*examples.values()])
        namespaces = {place: head.record.key.checkpoint_ns for place, head in zip(examples, heads, strict=True)}
        found = []
        for group in visible:
            namespace = namespaces.get((group.thread_id, group.space)) or segment_text(group.space) or ""
            position = (group.checkpoint_id, group.thread_id, namespace)
            if (
                query.checkpoint_id in (None, group.checkpoint_id)
                and (query.before is None or group.checkpoint_id < query.before)
                and (after is None or position < after)
            ):
                found.append((position, group))
        found.sort(key=itemgetter(0), reverse=True)
        return [group for _, group in found]

    def _surveyed(self, query: ListQuery) -> Operation[Sequence[Group]]:
        """Checkpoints among which are those of a page: all that match, or enough of the first."""
        if query.thread_id is None:
            surveyed = yield from self._surveyor.survey_all()
            return [group for _, groups in surveyed.values() for group in groups]
        if query.checkpoint_ns is not None:
            return (yield from self._space_groups(query.thread_id, query))
        if query.checkpoint_id is None and not query.terms:
            # One more, because the first of them may be the last of the page before.
            return (yield from self._surveyor.survey_newest(query.thread_id, query.below, query.limit + 1))
        ((_, groups),) = yield from self._surveyor.survey([query.thread_id])
        return groups

    def _space_groups(self, thread_id: str, query: ListQuery) -> Operation[Sequence[Group]]:
        """Enough checkpoints of one namespace for a page, from where it starts; all of them if the query has terms."""
        key, keys = NamespaceKey(thread_id, query.checkpoint_ns or ""), self._surveyor.keys
        after = f"{keys.space(key, query.below)}~" if query.below and query.checkpoint_id is None else ""
        call = List(keys.space(key, query.checkpoint_id), after=after)
        return (yield from self._surveyor.first_groups(thread_id, call, enough=None if query.terms else query.limit))
