"""The prompt of a held run: lines in, answers and commands out, and nothing that waits."""

import io
import os
from collections.abc import Iterator

import pytest

from pycolo_lab.prompt import END, FAILOVER, KILL, Answer, Prompt


class Talk:
    def __init__(self) -> None:
        self.theirs, self.ours = os.pipe()
        self.out = io.StringIO()
        answers = {"status": Answer("how it stands", lambda: ["it stands", "well"])}
        self.prompt = Prompt(answers, self.out, self.theirs)

    def types(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def hangs_up(self) -> None:
        if self.ours >= 0:
            os.close(self.ours)
        self.ours = -1


@pytest.fixture
def talk() -> Iterator[Talk]:
    found = Talk()
    yield found
    found.hangs_up()
    os.close(found.theirs)


def test_nothing_typed_is_nothing_and_does_not_wait(talk: Talk):
    assert talk.prompt.look() is None


@pytest.mark.parametrize("word", [KILL, FAILOVER, END])
def test_the_run_s_own_commands_are_handed_to_it(talk: Talk, word: str):
    talk.types(f"  {word.upper()} \n")
    assert talk.prompt.look() == word
    assert talk.prompt.look() is None


def test_commands_come_one_by_one_in_their_order(talk: Talk):
    talk.types("kill\nstatus\nend\n")
    assert talk.prompt.look() == KILL
    assert "it stands" not in talk.out.getvalue()
    assert talk.prompt.look() == END
    assert "it stands\nwell\n" in talk.out.getvalue()


def test_half_a_line_waits_for_its_other_half(talk: Talk):
    talk.types("ki")
    assert talk.prompt.look() is None
    talk.types("ll\n")
    assert talk.prompt.look() == KILL


def test_the_end_of_the_input_is_the_end(talk: Talk):
    talk.types("status\nkill")
    talk.hangs_up()
    assert talk.prompt.look() == KILL, "a last line without an end of line counts"
    assert talk.prompt.look() == END
    assert talk.prompt.look() == END


def test_without_a_standard_input_it_ends_at_once():
    theirs, ours = os.pipe()
    os.close(ours)
    os.close(theirs)
    assert Prompt({}, io.StringIO(), theirs).look() == END


@pytest.mark.parametrize("line", ["help", "what", "\x1b[2J"])
def test_what_is_unknown_is_answered_with_what_is_known(talk: Talk, line: str):
    talk.types(line + "\n")
    assert talk.prompt.look() is None
    said = talk.out.getvalue()
    assert "\x1b" not in said
    for word in (KILL, FAILOVER, END, "status"):
        assert f"\n  {word} " in f"\n{said}"


def test_no_prompt_is_written_to_what_is_no_terminal(talk: Talk):
    talk.prompt.open(["held"])
    assert "colo>" not in talk.out.getvalue()
    assert talk.out.getvalue().startswith("held\n")
