"""What the specification says of an implementation: something left that may not, or did not happen that must."""


class BrokenRuleError(AssertionError):
    """`rule`: its name in docs/rules.md; `text`: what was seen."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


def require(rule: str, condition: object, text: str) -> None:
    """Raise `BrokenRuleError` where the condition does not hold."""
    if not condition:
        raise BrokenRuleError(rule, text)
