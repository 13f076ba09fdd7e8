"""The state table as a picture and as text, for docs/checkpoint.md.

`python -m pycolo.checkpoint.diagram < docs/checkpoint.md` writes the page with the part between its marks renewed.
"""

import sys
from typing import Final

from pycolo.checkpoint.table import TRANSITIONS, Action, Fact, State

BEGIN: Final = "<!-- begin: made from checkpoint/table.py -->"
END: Final = "<!-- end -->"

_COMMANDS: Final = {
    Action.REFUSE: "refuse",
    Action.ASK: "AskHypervisor",
    Action.COMMIT: "Commit",
    Action.SUSPECT: "Suspect",
    Action.ABANDON_AND_SUSPECT: "Suspect",
    Action.DISSOLVE: "Dissolve",
    Action.ABANDON_AND_DISSOLVE: "Dissolve",
}
"""Actions that give a command, and its name in the picture."""

_NOTES: Final = frozenset({Fact.LATE_STOPPED, Fact.LATE_RESUMED, Fact.RESUME_MISSED})
"""Facts about earlier checkpoints: in the table, but without an arrow."""


def picture() -> str:
    """Mermaid: an arrow for each change of state, and for each command without one."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, fact), transition in TRANSITIONS.items():
        is_command = transition.action in (Action.REFUSE, Action.SUSPECT)
        if fact not in _NOTES and (transition.next is not state or is_command):
            arrows.setdefault((state, transition.next), []).append(_label(fact, transition.action))
    lines = ["stateDiagram-v2", f"    [*] --> {State.DISARMED}"]
    lines += [f"    {start} --> {end}: {'<br/>'.join(labels)}" for (start, end), labels in arrows.items()]
    return "\n".join(lines)


def _label(fact: Fact, action: Action) -> str:
    return f"{fact} / {_COMMANDS[action]}" if action in _COMMANDS else str(fact)


def table() -> str:
    """Markdown: every transition."""
    lines = ["| state | fact | then | what is done | why |", "|---|---|---|---|---|"]
    for (state, fact), transition in TRANSITIONS.items():
        then = "" if transition.next is state else f"`{transition.next}`"
        lines.append(f"| `{state}` | {fact} | {then} | {transition.action} | {transition.says} |")
    return "\n".join(lines)


def block() -> str:
    """The text between the marks of the page."""
    return f"{BEGIN}\n```mermaid\n{picture()}\n```\n\n{table()}\n{END}"


def renewed(page: str) -> str:
    """`page` with its block renewed. Raises ValueError if the marks are missing."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the lines {BEGIN} and {END}")
    return head + block() + tail


if __name__ == "__main__":
    sys.stdout.write(renewed(sys.stdin.read()))
