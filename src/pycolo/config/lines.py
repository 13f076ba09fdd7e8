"""On which line of a file a key of an array of tables stands: TOML's parser does not say."""

import re


def line_of(text: str, table: str, number: int, key: str) -> int | None:
    """From 1, for the table with this number, from 0; None where it is written in another form than `[[table]]`."""
    at = -1
    for line, written in enumerate(text.splitlines(), 1):
        if re.match(r"\s*\[", written):
            is_this = re.match(rf"\s*\[\[\s*{re.escape(table)}\s*\]\]", written) is not None
            at += is_this
            is_inside = is_this and at == number
        elif at == number and is_inside and re.match(rf"\s*{re.escape(key)}\s*=", written):
            return line
    return None
