"""What a node will need at a failover, tried beforehand: `colo check`, and before a guest is protected.

::

    table         an item: ok, warning or refused, and one line that says what to do
    moment        what this host is doing now: what may be tried depends on it
    programs      can a program be started?
    alike         what both nodes' files must say alike
    hosts         what this host is (`hostfacts`), and what both hosts must have in common
    guest         what the guest is made of, and what speaks against protecting it
    hooks         `network` and the fencing command: found, executable, tried as far as that harms nothing
    certificates  of both roles: there, readable, valid, of one authority
    places        directories, sockets, the record
    network       addresses, ports, the link
    host          all of them

Nothing here changes what the host or its guest does: `serve` and the fencing command are not run, only the dry runs
that the file names, and `retire` only where no guest of the pair serves or may come to.
"""

from pycolo.check.host import before_protect, check_host
from pycolo.check.moment import Moment
from pycolo.check.table import Item, Level

__all__ = ["Item", "Level", "Moment", "before_protect", "check_host"]
