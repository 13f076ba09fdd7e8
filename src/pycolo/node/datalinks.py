"""The data connections of one link: one for each network card, in the order of the cards."""

from pycolo.transport.linksocket import LinkSocket


class DataLinks(tuple[LinkSocket, ...]):
    """They belong together: a link has all of them, or is none."""

    __slots__ = ()

    def close(self) -> None:
        """Close all."""
        for one in self:
            one.close()
