"""`thalweg run --workers 4`, as the README has it: four members, one killed, all stopped."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

from tests.broker.broker import Broker
from tests.broker.groups import described
from tests.broker.workers import WordCount
from tests.waiting import HANG_S, wait_until
from thalweg.rebalance.description import MemberDescription

WORKERS = 4


def test_four_workers_are_started_again_and_stopped_as_one(broker: Broker, tmp_path: Path) -> None:
    words = WordCount(
        broker.bootstrap_servers,
        tmp_path,
        partitions=WORKERS,
        processing_guarantee="exactly_once_v2",
        statestore_cache_max_bytes=0,
    )

    def members() -> dict[str, MemberDescription]:
        group = described(broker.bootstrap_servers, words.application_id)
        return {} if group is None else {member.member_id: member for member in group.members}

    def is_shared(gone: str | None = None) -> bool:
        """Whether each of four has tasks, and each task is one's; `gone` is none of them."""
        found = members()
        tasks = sorted(task for member in found.values() for task in member.tasks.active)
        wanted = sorted((part, n) for part in ("0", "1") for n in range(WORKERS))
        return (
            len(found) == WORKERS
            and gone not in found
            and all(member.tasks.active for member in found.values())
            and tasks == wanted
        )

    with words:
        words.feed()
        together = words.start_together(WORKERS)
        words.wait(is_shared, HANG_S, lambda: f"a share for four: {members()}")
        words.wait_counted()

        def status() -> list[dict[str, str]]:
            found: list[dict[str, str]] = json.loads(words.status("--json").stdout)["instances"]
            return found if {one["state"] for one in found} == {"RUNNING"} else []

        told = wait_until(status, HANG_S, "four that run")
        endpoints = {one["member_id"]: one["endpoint"] for one in told}
        assert len(set(endpoints.values())) == WORKERS
        assert endpoints.keys() == members().keys()
        before = together.children()
        assert set(before) == {f"worker-{number}" for number in range(1, WORKERS + 1)}

        # One is killed in the middle of its work, and comes back as another member.
        said = re.search(r"^\[2\] .*answering queries at (\S+)", together.log, re.MULTILINE)
        assert said is not None
        (victim,) = [member for member, endpoint in endpoints.items() if endpoint == said[1]]
        words.feed(lines=2_000)
        os.kill(before["worker-2"], signal.SIGKILL)
        words.wait(lambda: is_shared(gone=victim), HANG_S, lambda: f"a new share: {members()}")
        after = together.children()
        assert {name for name in after if after[name] != before[name]} == {"worker-2"}
        assert "worker 2 was ended by SIGKILL; it is started again" in together.log

        # Whoever has not left by then would still be a member for the longest time there is.
        words.configure_group(session_timeout_ms=60_000)
        words.feed()
        words.wait_counted()
        assert together.stop() == 0
        group = described(broker.bootstrap_servers, words.application_id)
        assert group is not None
        assert (group.state, group.members) == ("Empty", ())
        assert not any(Path(f"/proc/{process}").exists() for process in after.values())
        words.assert_exact(is_each_written=True)
        words.assert_calm()
