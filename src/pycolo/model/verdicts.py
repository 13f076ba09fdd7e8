"""The verdict on an implementation: forbidden output, or a missed obligation."""


class BrokenRuleError(AssertionError):
    """`rule`: its name in docs/rules.md; `text`: the observation."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


def require(rule: str, condition: object, text: str) -> None:
    """Raise `BrokenRuleError` unless the condition holds."""
    if not condition:
        raise BrokenRuleError(rule, text)
