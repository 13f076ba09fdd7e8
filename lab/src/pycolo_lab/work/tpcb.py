"""Transactions of TPC-B by pgbench, and their law.

Each transaction also writes down its client and a number that the client counts. So every commit that a client has seen
is a row of the history, once; a client may have one more, whose answer has not come. And as TPC-B wants it, the sums
of the balances of accounts, tellers and branches, and of the changes in the history, change alike.
"""

import signal
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pycolo_lab.work.result import Work, WorkResult, main, shown, wait_for

CLIENTS: Final = 4
LONGEST_S: Final = 86_400
"""pgbench ends in order, and writes its log, when the alarm of this time comes: it is sent one when the run ends."""

DATABASE: Final = "bench"

SCRIPT: Final = """\\set seq :seq + 1
\\set aid random(1, 100000 * :scale)
\\set bid random(1, 1 * :scale)
\\set tid random(1, 10 * :scale)
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime, filler)
  VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP, concat(:client_id, '/', :seq));
END;
"""
"""pgbench's own transaction of this kind, and the number."""

SUMS: Final = """SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
(SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)"""
ROWS: Final = "SELECT trim(filler) FROM pgbench_history WHERE filler IS NOT NULL"


def seen(lines: Iterable[str]) -> dict[int, int]:
    """Client -> commits that it has seen, from pgbench's log: a line each, which begins with the client's number."""
    return dict(Counter(int(line.split(" ", 1)[0]) for line in lines))


def breaches(commits: Mapping[int, int], rows: Iterable[str], changes: Sequence[int]) -> list[str]:
    """What breaks the law. `rows`: CLIENT/NUMBER of each; `changes`: by how much the four sums have changed."""
    counted = Counter(rows)
    found = [f"transaction {row} is in the history {times} times" for row, times in counted.items() if times > 1]
    for client, last in sorted(commits.items()):
        found += [f"commit {client}/{n} is lost" for n in range(1, last + 1) if f"{client}/{n}" not in counted]
    for row in counted:
        whose, _, counted_as = row.partition("/")
        has_seen = commits.get(int(whose), 0)
        if int(counted_as) > has_seen + 1:
            found.append(f"transaction {row} is in the history, its client has seen {has_seen}")
    if len(set(changes)) > 1:
        words = ", ".join(map(str, changes))
        found.append(f"the sums of accounts, tellers, branches and history have changed by {words}")
    return found


class _Database:
    def __init__(self, work: Work) -> None:
        self._work = work
        self._options = ["--host", work.address, "--username", "postgres"]

    def pgbench(self, script: Path, log: Path) -> list[str]:
        """The command that works until it gets an alarm."""
        return [
            *("pgbench", *self._options, "--no-vacuum", "--client", str(CLIENTS), "--define", "seq=0"),
            *("--file", str(script), "--time", str(LONGEST_S), "--log", f"--log-prefix={log}", DATABASE),
        ]

    def asked(self, query: str) -> list[str]:
        """The answer's lines. Raises `OSError` when there is none."""
        command = ["psql", *self._options, "--no-align", "--tuples-only", "--no-psqlrc", "--command", query, DATABASE]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=self._work.stall_s, check=False)
        except subprocess.TimeoutExpired:
            raise OSError(f"psql: no answer for {self._work.stall_s:.0f} s") from None
        if done.returncode != 0:
            raise OSError(f"psql: {' | '.join(done.stderr.split(chr(10))).strip()}")
        return done.stdout.splitlines()

    def sums(self) -> list[int]:
        """Of the balances of accounts, tellers and branches, and of the history's changes."""
        return [int(part) for part in self.asked(SUMS)[0].split("|")]


def run(work: Work) -> WorkResult:
    """Until the run ends it; then what the clients have seen and what is there is compared."""
    database = _Database(work)
    script, log = work.directory / "script.sql", work.directory / "log"
    script.write_text(SCRIPT)
    try:
        database.asked("DELETE FROM pgbench_history WHERE filler IS NOT NULL")
        before = database.sums()
        with (work.directory / "pgbench.out").open("w") as said:
            pgbench = subprocess.Popen(database.pgbench(script, log), stdout=said, stderr=subprocess.STDOUT)
            while not work.is_over() and pgbench.poll() is None:
                wait_for(lambda: work.is_over() or pgbench.poll() is not None, work.stall_s)
            found = [] if work.is_over() else ["pgbench ended by itself"]
            pgbench.send_signal(signal.SIGALRM)
            if not wait_for(lambda: pgbench.poll() is not None, work.stall_s):
                pgbench.kill()
                pgbench.wait()
                found.append(f"pgbench did not end for {work.stall_s:.0f} s: a transaction has no answer")
        words = (work.directory / "pgbench.out").read_text().splitlines()
        found += [line for line in words if "error" in line or "aborted" in line]
        commits = seen(line for path in work.directory.glob("log.*") for line in path.read_text().splitlines())
        changes = [now - then for now, then in zip(database.sums(), before, strict=True)]
        found += breaches(commits, database.asked(ROWS), changes)
    except OSError as error:
        return WorkResult(0, "TPC-B", [str(error)])
    total = sum(commits.values())
    missing = [] if total else ["no transaction was committed"]
    return WorkResult(total, f"{total} commits of {len(commits)} clients", shown([*missing, *found]))


if __name__ == "__main__":
    main("tpcb", run)
