"""Masks that might be worth while, as `colo explain --suggest` shows them: TOML for a node's file."""

from collections.abc import Iterator
from typing import Any, Final

Fields = dict[str, Any]

NOTHING: Final = "# nothing to propose: no word has differed yet, at equal length, at one place in three connections"
ADVICE: Final = (
    "# For both nodes' files, after a look at each: the client holds the primary's bytes, and after a failover the",
    "# survivor goes on with its own. Do not mask what a client sends back, such as a session's identifier.",
)


def suggestion_lines(answer: Fields) -> Iterator[str]:
    """All of it can be pasted."""
    if not answer["masks"]:
        yield NOTHING
        return
    yield from ADVICE
    for mask in answer["masks"]:
        yield ""
        yield f"# {mask['differences']} differences"
        if caution := mask.get("caution"):
            yield f"# Careful: {caution}."
        yield "[[mask]]"
        yield f"ports = {mask['ports']}"
        if mask["direction"] != "in":
            yield f'direction = "{mask["direction"]}"'
        yield f"pattern = '{mask['pattern']}'"
