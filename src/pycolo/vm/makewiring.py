"""The wiring that the node's file asks for."""

from pycolo.config import PairConfig
from pycolo.hostnet.wire import Wire
from pycolo.vm.filterwiring import FilterWiring
from pycolo.vm.guestwiring import GuestWiring
from pycolo.vm.hooks import Network
from pycolo.vm.tapwiring import Card, TapWiring


def make_wiring(config: PairConfig, network: Network) -> GuestWiring:
    """Beside QEMU where the file has `[[card]]`, else in QEMU's network."""
    if not config.card:
        return FilterWiring(config, network)
    cards = [
        Card(card.netdev, card.tap, Wire(config.pair, number, card, config.state))
        for number, card in enumerate(config.card)
    ]
    return TapWiring(cards)
