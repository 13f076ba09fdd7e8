"""How many examples a law is tried with."""

from hypothesis import settings


def examples(count: int) -> settings:
    """So many; under the profile `quick`, that of `make check`, fewer."""
    is_quick = settings.default is not None and settings.default.max_examples < 100
    return settings(max_examples=min(count, 10 + count // 20) if is_quick else count)
