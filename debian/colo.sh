#!/bin/sh
exec /usr/lib/pycolo/bin/python3 -I -m pycolo "$@"
