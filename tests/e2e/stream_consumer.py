"""A consumer that can be stopped: follows a topic until the last event, and prints what it got.

python -m tests.e2e.stream_consumer PORT TOPIC ON_SLOW LAG_MAX LAST
"""

from __future__ import annotations

import json
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


def main(port: str, topic: str, on_slow: str, lag_max: str, last: str) -> None:
    events = dropped = 0
    newest = -1
    in_order = True
    code = 0
    errors = []
    with connect(f"ws://127.0.0.1:{port}/v1/stream", compression=None, proxy=None) as ws:
        asked = {"topics": [topic], "on_slow": on_slow, "lag_max": int(lag_max)}
        ws.send(json.dumps({"op": "subscribe", "id": "s", **asked}))
        assert json.loads(ws.recv())["type"] == "ack"
        print("subscribed", flush=True)
        try:
            while newest < int(last):
                frame = json.loads(ws.recv())
                if frame["type"] == "event":
                    number = int(frame["payload"][:8])
                    in_order &= number > newest
                    newest = number
                    events += 1
                elif frame["type"] == "dropped":
                    dropped += frame["count"]
                else:
                    errors.append(frame["code"])
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd is not None else 1006
    found = {"events": events, "dropped": dropped, "in_order": in_order}
    print(json.dumps({**found, "newest": newest, "code": code, "errors": errors}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
