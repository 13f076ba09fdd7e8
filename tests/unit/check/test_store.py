"""etcd's members, asked one by one."""

import asyncio
from contextlib import AsyncExitStack

import msgspec
import pytest

from pycolo.check import Level
from pycolo.check.store import store_items
from pycolo.config import parse
from support.configs import changed, checkable
from support.etcd import read_request, serving

ANSWER = {
    "header": {"cluster_id": "9", "member_id": "2", "revision": "5", "raft_term": "3"},
    "succeeded": True,
    "responses": [{"response_range": {}}, {"response_range": {}}],
}


def says(body):
    async def serve(reader, writer):
        await read_request(reader)
        data = msgspec.json.encode(body)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        await writer.drain()

    return serve


async def levels(tmp_path, *bodies, **more):
    """Of one endpoint per body; None: nothing listens there."""
    async with AsyncExitStack() as stack:
        urls = ["http://127.0.0.1:1" if body is None else "" for body in bodies]
        for number, body in enumerate(bodies):
            if body is not None:
                urls[number] = f"http://127.0.0.1:{await stack.enter_async_context(serving(says(body)))}"
        given = {"arbiter.kind": "etcd", "arbiter.endpoints": urls, **more}
        config = parse(changed(checkable(tmp_path, given)).encode(), "vm.toml")
        return [item.level for item in await store_items(config)]


@pytest.mark.parametrize(
    ("bodies", "expected"),
    [
        ([ANSWER], [Level.OK]),
        ([ANSWER, None], [Level.OK, Level.WARNING]),
        ([None], [Level.REFUSED]),
        ([None, {"header": {}}], [Level.REFUSED, Level.REFUSED]),
    ],
)
def test_one_member_that_answers_is_enough(tmp_path, bodies, expected):
    assert asyncio.run(levels(tmp_path, *bodies)) == expected


def test_files_that_tls_cannot_use_are_refused(tmp_path):
    given = {"arbiter.kind": "etcd", "arbiter.endpoints": ["https://127.0.0.1:1"], "arbiter.ca": "/nowhere/ca.pem"}
    config = parse(changed(checkable(tmp_path, given)).encode(), "vm.toml")
    (item,) = asyncio.run(store_items(config))
    assert item.level is Level.REFUSED
    assert "arbiter.ca: expected a file in PEM" in item.text
