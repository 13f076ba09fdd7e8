"""What the nodes say to one another over a link: questions, answers, and words."""

import asyncio
from collections.abc import Callable

import pytest

from pycolo.errors import PeerError, StateError
from pycolo.link.orders import JsonObject, Order, decode_order, encode_order
from pycolo.node.peerrpc import OPEN_MAX, PeerRpc


def test_an_answer_finds_its_question_once():
    sent, answers = [], []
    rpc = PeerRpc(lambda payload: sent.append(decode_order(payload)))
    rpc.ask("discard", {"term": 1}, answers.append)
    rpc.ask("discard", {"term": 1}, answers.append)
    rpc.say("prepare", {})
    assert len({order.id for order in sent}) == 3
    reply = Order(id=sent[1].id, answer={})
    for _ in range(2):
        assert rpc.heard(encode_order(reply)) is None
    assert answers == [reply]


def test_questions_that_are_never_answered_are_forgotten():
    answers, numbers = [], []
    rpc = PeerRpc(lambda payload: numbers.append(decode_order(payload).id))
    for _ in range(3 * OPEN_MAX):
        rpc.ask("discard", {}, answers.append)
    for number in numbers:
        rpc.heard(encode_order(Order(id=number, answer={})))
    assert [order.id for order in answers] == numbers[-OPEN_MAX:]


def test_questions_of_the_other_node_are_handed_on_and_nonsense_is_not():
    rpc = PeerRpc(lambda payload: None)
    question = Order(id=4, order="resign", arguments={"term": 2})
    assert rpc.heard(encode_order(question)) == question
    assert rpc.heard(b"\xff") is None
    assert rpc.heard(encode_order(Order(id=99, error="no"))) is None


def test_a_connection_that_takes_no_more_costs_a_line(capsys):
    def full(payload):
        raise StateError("link: send", "full", "fewer messages")

    PeerRpc(full).say("broken", {})
    assert "the other node is not told 'broken'" in capsys.readouterr().out


# ── questions that are waited for ───────────────────────────────────────────────────────────────────────────


def two_ends(answer: Callable[[PeerRpc, Order], None]) -> tuple[PeerRpc, PeerRpc]:
    """Two ends that hear one another; `answer(rpc, order)` does what the other one asks."""
    ends: list[PeerRpc] = []
    loop = asyncio.get_running_loop()

    def hear(number: int, payload: bytes) -> None:
        if (order := ends[number].heard(payload)) is not None:
            answer(ends[number], order)

    for number in (1, 0):
        ends.append(PeerRpc(lambda payload, number=number: loop.call_soon(hear, number, payload) and None))
    return ends[0], ends[1]


def echo(rpc: PeerRpc, order: Order) -> None:
    said: JsonObject = {"order": order.order, **order.arguments}
    if order.order == "refuse":
        rpc.refuse(order.id, "not today")
    elif order.order != "hang":
        rpc.answer(order.id, said)


def test_each_request_gets_its_own_answer():
    async def play():
        a, b = two_ends(echo)
        answers = await asyncio.gather(*(side.request("x", {"n": n}) for n in range(5) for side in (a, b)))
        assert [answer["n"] for answer in answers] == [n for n in range(5) for _ in range(2)]

    asyncio.run(play())


def test_a_refusal_is_the_others_line():
    async def play():
        a, _ = two_ends(echo)
        with pytest.raises(PeerError, match="the other node: not today"):
            await a.request("refuse", {})

    asyncio.run(play())


def test_a_silent_node_and_a_lost_link_are_errors_and_late_answers_do_no_harm():
    async def play():
        a, _ = two_ends(echo)
        with pytest.raises(PeerError, match=r"within 0\.01 s"):
            await a.request("hang", {}, timeout_s=0.01)
        waiting = asyncio.ensure_future(a.request("hang", {}))
        await asyncio.sleep(0)
        a.lost("cut")
        with pytest.raises(PeerError, match="the other node is gone: cut"):
            await waiting
        a.heard(encode_order(Order(id=1, answer={"late": True})))
        assert (await a.request("x", {}))["order"] == "x"

    asyncio.run(play())


def test_a_lost_link_is_no_refusal_of_the_promise():
    """Of a question that is not waited for: a primary without a guest would resign."""
    answers = []
    rpc = PeerRpc(lambda payload: None)
    rpc.ask("discard", {}, answers.append)
    rpc.lost("cut")
    assert answers == []


def test_an_order_is_answered_once_and_only_if_it_was_asked():
    sent = []
    rpc = PeerRpc(lambda payload: sent.append(decode_order(payload)))
    rpc.heard(encode_order(Order(id=4, order="prepare")))
    rpc.refuse(4, "no QEMU")
    rpc.answer(4, {})
    rpc.answer(5, {})
    assert [(order.id, order.error) for order in sent] == [(4, "no QEMU")]
