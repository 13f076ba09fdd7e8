"""The pair table as a picture and as text, for docs/pair.md (`python docs/made.py` writes them there)."""

from collections.abc import Iterable
from typing import Final

from pycolo.failover.pairstates import FREE, SECONDARY, SHOWN, TRUSTING, Fact, Row, State
from pycolo.failover.pairtable import OTHERWISE, ROWS

_ORDER: Final = {fact: number for number, fact in enumerate(Fact)}


def name(state: State) -> str:
    """As the picture has it: Mermaid takes no blanks."""
    return state.value.replace(" ", "_")


def picture(states: Iterable[State]) -> str:
    """Mermaid: an arrow for each change of state within `states`, or out of them, with the facts that make it."""
    drawn = frozenset(states)
    arrows: dict[tuple[State, State], set[Fact]] = {}
    for row in ROWS:
        for state in row.states:
            if state in drawn and row.next not in (None, state):
                assert row.next is not None
                arrows.setdefault((state, row.next), set()).update(row.facts)
    lines = ["stateDiagram-v2"]
    for (start, end), facts in arrows.items():
        if end is State.RETIRING and len(facts & {Fact.HIGHER_TERM, Fact.REFUSED}) == len(facts):
            continue  # from nearly everywhere: said once, in the page
        shown = "<br/>".join(fact.value for fact in sorted(facts, key=_ORDER.__getitem__))
        lines.append(f"    {name(start)} --> {name(end)}: {shown}")
    return "\n".join(lines)


def states_table() -> list[tuple[str, ...]]:
    """Every state: its name in `colo status`, the role of the moment, what may leave."""
    rows: list[tuple[str, ...]] = []
    for state in State:
        leaves = "everything" if state in FREE else "what is trusted" if state in TRUSTING else "nothing"
        role = "secondary" if state in SECONDARY else "primary"
        rows.append((f"`{state}`", SHOWN[state], role, leaves))
    return rows


def rows_table() -> list[tuple[str, ...]]:
    """Every row: states, facts, the next state, commands, the reason."""
    return [_cells(row) for row in ROWS]


def _cells(row: Row) -> tuple[str, ...]:
    of = ", ".join(f"`{state}`" for state in row.states)
    on = ", ".join(row.facts)
    then = f"`{row.next}`" if row.next is not None else ""
    does = "; ".join(row.does)
    if row.timer is not None:
        does = f"{does}; " if does else ""
        does += f"deadline: {row.timer.value}"
    return of, on, then, does, row.says


def otherwise_table() -> list[tuple[str, ...]]:
    """Why a fact changes nothing where no row names it."""
    return [(fact.value, OTHERWISE[fact]) for fact in Fact]
