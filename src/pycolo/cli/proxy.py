"""`colo proxy`: QEMU's own options, taken verbatim."""

import sys

import click

from pycolo.errors import ConfigError

_HELP = """\b
Do the work of QEMU's COLO objects in a separate process, over the same sockets.

\b
The options are QEMU's, word for word (-x and --x are the same):
  -chardev socket,id=ID,path=PATH|host=HOST,port=PORT[,server=on][,wait=off][,reconnect=SECONDS]
  -object colo-compare,id=ID,primary_in=C,secondary_in=C,outdev=C,iothread=ID[,notify_dev=C][,vnet_hdr_support=on]
          [,compare_timeout=MS][,expired_scan_cycle=MS][,max_queue_size=PACKETS]
          [,ack_policy=commit|immediate][,on_divergence=hold|report|reset]
  -object filter-rewriter,id=ID,client_in=C,guest_out=C,guest_in=C,client_out=C[,notify_dev=C][,vnet_hdr_support=on]
  -netdev tap,id=ID,ifname=NAME[,vnet_hdr=on|off],script=no,downscript=no
  -object filter-mirror|filter-redirector|filter-rewriter|filter-dump,id=ID,netdev=ID[,queue=rx|tx|all]…
  -object iothread,id=ID

\b
  --metrics HOST:PORT   serve Prometheus text there
  --spin MICROSECONDS   after a frame, poll this long for the next one: costs a core, saves the wake-up
  --pcap FILE           write the packets that colo-compare receives, each with its fate as a comment (pcapng)
  SIGUSR1 prints the state of every object; SIGTERM and SIGINT end it.
"""


@click.command(
    short_help="Stand in for QEMU's colo-compare and filters, with QEMU's own options.",
    help=_HELP,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": ["-h", "--help"]},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def proxy(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Exit codes: 0 ended by a signal, 1 the environment does not permit it, 2 the command line is wrong."""
    if not arguments or {"-h", "--help", "-help"} & set(arguments):
        click.echo(context.get_help())
        return
    # Imported here: help and wrong usage need no compiled core.
    from pycolo.proxy.line import parse_line  # noqa: PLC0415
    from pycolo.proxy.process import Proxy  # noqa: PLC0415

    try:
        line = parse_line(arguments)
    except ConfigError as error:
        click.echo(f"colo: {error}", err=True)
        sys.exit(2)
    running = Proxy(line)
    running.start()
    # From here on it listens and serves. Only the log is left to set up; its libraries are slow to import.
    from pycolo.cli.logfile import LogFile, configure_log  # noqa: PLC0415

    file = LogFile(sys.stderr.fileno(), sys.stderr.encoding)
    configure_log(file)
    try:
        sys.exit(running.run())
    finally:
        file.close()
