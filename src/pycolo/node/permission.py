"""A node's arbiter: carries out the pair table's commands for it, and tells the table its facts."""

import asyncio
from collections.abc import Callable

from pycolo.arbiters.runner import ArbiterRunner, now_ms
from pycolo.failover.arbiter import Arbiter, Decision
from pycolo.failover.pair import Told
from pycolo.failover.pairstates import Fact

Tell = Callable[[Fact, Told], None]
MakeRunner = Callable[[Callable[[], None]], ArbiterRunner]


def run_core(core: Arbiter) -> MakeRunner:
    """For a core without requests."""
    return lambda on_change: ArbiterRunner(core, on_change)


class Permission:
    """Asks one arbiter. Each suspicion is a new question, under the term of the moment.

    `tell` gets the arbiter's facts, during a call if that call has made it decide.
    """

    def __init__(self, make_runner: MakeRunner, tell: Tell, term: Callable[[], int]) -> None:
        self._runner = make_runner(self._report)
        self.serve_until_ns: Callable[[], int | None] = self._runner.serve_until_ns
        """See `ArbiterRunner.serve_until_ns`. Any thread."""
        self._tell = tell
        self._term = term
        self._is_asked = False
        self._granted_term = 0  # granted, and perhaps not on record yet
        self._resigning: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The arbiter's name in the configuration."""
        return self._runner.name

    @property
    def says(self) -> str:
        """The arbiter's state, one line for the user."""
        return self._runner.verdict().text

    @property
    def is_settled(self) -> bool:
        """Whether what the arbiter says is the answer to an earlier question. One with a lease speaks of that."""
        is_decided = self._runner.verdict().decision is not Decision.WAIT
        return is_decided and not self._is_asked and self.serve_until_ns() is None

    async def start(self) -> None:
        """Start the arbiter."""
        await self._runner.start()

    async def close(self) -> None:
        """Stop the arbiter; a lease that was not resigned runs out by itself."""
        if self._resigning is not None:
            await self._resigning
        await self._runner.close()

    def ask(self) -> None:
        """The other node is suspected."""
        self._granted_term = 0
        self._open_question()
        self._runner.suspected(now_ms())
        self._report()

    def ask_harmless(self) -> None:
        """As `ask`, unless it is asked already or the question could harm the other node."""
        if not self._runner.harms and not self._is_asked:
            self.ask()

    def withdraw(self) -> None:
        """The other node was heard, or its own word decides."""
        self._is_asked = False
        self._granted_term = 0
        self._runner.recovered(now_ms())
        self._report()

    def operator_confirmed(self) -> None:
        """The operator vouches that the other node is down."""
        if self._is_granted():
            return
        self._open_question()
        self._runner.operator_confirmed(now_ms())
        self._report()

    def peer_resigned(self, why: str) -> None:
        """The other node has said that it no longer serves."""
        if self._is_granted():
            return
        self._open_question()
        self._runner.peer_resigned(now_ms(), why)
        self._report()

    def serves(self) -> None:
        """Frames may leave from now on; an arbiter with a lease wants it."""
        self._runner.serves(self._term())
        self._report()

    def told(self, change: Callable[[], None], *, opens_question: bool) -> None:
        """`change()` tells the core something that only its kind knows; it may grant if it opens a question."""
        if opens_question:
            self._open_question()
        change()
        self._runner.told()
        self._report()

    def resign(self) -> None:
        """This node no longer serves: it returns what it holds."""
        self._is_asked = False
        self._resigning = asyncio.get_running_loop().create_task(self._runner.resign())

    def _is_granted(self) -> bool:
        """Whether the present question is answered: another grant would open a term that nothing serves under."""
        return self._granted_term > self._term()

    def _open_question(self) -> None:
        if not self._is_asked:
            self._is_asked = True
            self._runner.paired(self._term())

    def _report(self) -> None:
        for fact, told in self._runner.facts():
            if fact in (Fact.GRANTED, Fact.REFUSED):
                self._is_asked = False
                self._granted_term = told.term if fact is Fact.GRANTED else 0
            self._tell(fact, told)
