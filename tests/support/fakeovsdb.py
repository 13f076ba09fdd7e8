"""A database server of Open vSwitch with the few operations that pycolo uses, and a vswitchd that follows at once.

The rows of a new port, and the answers, are as ovsdb-server 3.1.0 gave them.
"""

import copy
import json
import socket
import threading
import uuid
from pathlib import Path
from typing import Any

EMPTY: dict[str, dict[str, Any]] = {
    "Port": {
        "tag": ["set", []],
        "trunks": ["set", []],
        "vlan_mode": ["set", []],
        "cvlans": ["set", []],
        "protected": False,
        "qos": ["set", []],
        "other_config": ["map", []],
        "external_ids": ["map", []],
    },
    "Interface": {
        "ofport_request": ["set", []],
        "ingress_policing_rate": 0,
        "ingress_policing_burst": 0,
        "lldp": ["map", []],
        "other_config": ["map", []],
        "external_ids": ["map", []],
        "ofport": ["set", []],
        "type": "",
    },
    "Bridge": {"ports": ["set", []]},
}


class FakeOvsdb:
    """Listens at `path`; `is_stuck`: ovs-vswitchd does nothing."""

    def __init__(self, path: Path) -> None:
        self.is_stuck = False
        self.transactions: list[list[dict[str, Any]]] = []
        self.tables: dict[str, list[dict[str, Any]]] = {"Port": [], "Interface": [], "Bridge": []}
        self.tables["Open_vSwitch"] = [{"next_cfg": 7, "cur_cfg": 7}]
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)

    # ── tables ──

    def add(self, table: str, **columns: Any) -> list[str]:
        """A row; its uuid."""
        row = {"_uuid": ["uuid", str(uuid.uuid4())], **copy.deepcopy(EMPTY[table]), **columns}
        self.tables[table].append(row)
        return row["_uuid"]  # type: ignore[no-any-return]

    def add_port(self, bridge: str, name: str, port: dict[str, Any], interface: dict[str, Any]) -> None:
        """A port with one interface."""
        of = self.add("Interface", name=name, **interface)
        made = self.add("Port", name=name, interfaces=of, **port)
        (row,) = [row for row in self.tables["Bridge"] if row["name"] == bridge]
        row["ports"][1].append(made)

    def ports(self, bridge: str) -> list[str]:
        """Names of a bridge's ports."""
        (row,) = [row for row in self.tables["Bridge"] if row["name"] == bridge]
        return [port["name"] for port in self.tables["Port"] if port["_uuid"] in row["ports"][1]]

    # ── protocol ──

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                self._talk(sock)

    def _talk(self, sock: socket.socket) -> None:
        sock.sendall(b'{"method":"echo","params":[],"id":"echo"}')  # it may ask at any time
        text = ""
        while octets := sock.recv(65536):
            text += octets.decode()
            while text:
                try:
                    message, end = json.JSONDecoder().raw_decode(text)
                except ValueError:
                    break
                text = text[end:]
                if message.get("method") == "transact":
                    answer = {"id": message["id"], "result": self._transact(message["params"][1:]), "error": None}
                    octets = json.dumps(answer).encode()
                    sock.sendall(octets[:5])
                    sock.sendall(octets[5:])

    def _transact(self, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if any(operation["op"] != "select" for operation in operations):
            self.transactions.append(operations)
        before = copy.deepcopy(self.tables)
        names: dict[str, list[str]] = {}
        answers = []
        for operation in operations:
            answer = getattr(self, f"_{operation['op']}")(operation, names)
            answers.append(answer)
            if "error" in answer:
                self.tables = before
                break
        used = [port for bridge in self.tables["Bridge"] for port in bridge["ports"][1]]
        self.tables["Port"] = [row for row in self.tables["Port"] if row["_uuid"] in used]
        interfaces = [row["interfaces"] for row in self.tables["Port"]]
        self.tables["Interface"] = [
            row
            for row in self.tables["Interface"]
            if any(row["_uuid"] == one or (one[0] == "set" and row["_uuid"] in one[1]) for one in interfaces)
        ]
        return answers

    def _found(self, operation: dict[str, Any]) -> list[dict[str, Any]]:
        def fits(row: dict[str, Any]) -> bool:
            return all(
                row[column] == value if how == "==" else value in row[column][1]
                for column, how, value in operation["where"]
            )

        return [row for row in self.tables[operation["table"]] if fits(row)]

    def _select(self, operation: dict[str, Any], _names: object) -> dict[str, Any]:
        return {"rows": [{key: row[key] for key in operation["columns"]} for row in self._found(operation)]}

    def _wait(self, operation: dict[str, Any], _names: object) -> dict[str, Any]:
        rows = self._select(operation, None)["rows"]
        return {} if rows == operation["rows"] else {"error": "timed out", "details": '"where" clause test failed'}

    def _insert(self, operation: dict[str, Any], names: dict[str, list[str]]) -> dict[str, Any]:
        row = {
            key: names[value[1]] if isinstance(value, list) and value[0] == "named-uuid" else value
            for key, value in operation["row"].items()
        }
        if operation["table"] == "Interface":
            row["ofport"] = row.get("ofport_request", 99)
        names[operation["uuid-name"]] = self.add(operation["table"], **row)
        return {"uuid": names[operation["uuid-name"]]}

    def _mutate(self, operation: dict[str, Any], names: dict[str, list[str]]) -> dict[str, Any]:
        for row in self._found(operation):
            for column, how, value in operation["mutations"]:
                if how == "+=":
                    row[column] += value
                    row["cur_cfg"] = row["cur_cfg"] if self.is_stuck else row[column]
                    continue
                items = [names[item[1]] if item[0] == "named-uuid" else item for item in value[1]]
                kept = [item for item in row[column][1] if item not in items]
                row[column] = ["set", kept + (items if how == "insert" else [])]
        return {"count": 1}
