"""Is etcd there? Its members are asked one by one, as the arbiter asks them."""

import asyncio

from pycolo.arbiters.etcdclient import EtcdStore
from pycolo.arbiters.httprequest import TlsFiles
from pycolo.check.table import Item, ok, refused, warning
from pycolo.config import PairConfig
from pycolo.errors import ConfigError, PycoloError
from pycolo.failover.store import ReadKeys

ASK_S = 2.0
"""A read that all members agree on; a loaded disk takes a tenth of it."""


async def store_items(config: PairConfig) -> list[Item]:
    """One per endpoint. A member that is down is a warning as long as another one answers."""
    faults = await asyncio.gather(*(_fault(config, url) for url in config.arbiter.endpoints))
    name = "arbiter.endpoints"
    if all(faults):
        return [refused(name, f"{fault}: the arbiter could not decide") for fault in faults]
    return [
        warning(name, f"{fault}: correct it, or start that member") if fault else ok(name, f"{url} answers")
        for url, fault in zip(config.arbiter.endpoints, faults, strict=True)
    ]


async def _fault(config: PairConfig, url: str) -> str:
    given = config.arbiter
    try:
        store = EtcdStore([url], given.prefix, config.pair, ASK_S, TlsFiles(given.ca, given.certificate, given.key))
        await store.ask(ReadKeys())
    except ConfigError as error:
        return str(error)
    except PycoloError as error:
        return str(error)
    return ""
