"""The other end of a tunnel, on python's h2. `client ADDRESS`: a tunnel to an echo, and what is no tunnel. `server`: an echo."""

import socket
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, RequestReceived, StreamEnded, StreamReset, ConnectionTerminated

AUTHORITY = "10.0.0.2:8080"
PAYLOAD = bytes(n % 251 for n in range(1 << 20))


def connection(client):
    # CONNECT has neither :scheme nor :path, which the library's checks miss.
    config = H2Configuration(client_side=client, header_encoding="utf-8", validate_inbound_headers=False,
                             validate_outbound_headers=False)
    return H2Connection(config=config)


class Link:
    def __init__(self, sock, client):
        self.sock = sock
        self.h2 = connection(client)
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def events(self):
        received = self.sock.recv(1 << 16)
        if not received:
            raise SystemExit("the connection ended")
        events = self.h2.receive_data(received)
        for event in events:
            if isinstance(event, DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if isinstance(event, ConnectionTerminated):
                raise SystemExit(f"GOAWAY {event.error_code}")
        self.flush()
        return events

    def push(self, stream, waiting):
        """Sends of `waiting` what the windows take; what is left."""
        while waiting:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(waiting))
            if room == 0:
                break
            self.h2.send_data(stream, waiting[:room])
            waiting = waiting[room:]
            self.flush()
        return waiting


def client(address):
    host, port = address.rsplit(":", 1)
    link = Link(socket.create_connection((host, int(port))), True)
    link.h2.send_headers(1, [(":method", "CONNECT"), (":authority", AUTHORITY), ("baggage", "k8s.namespace.name=shop")])
    link.h2.send_headers(3, [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", AUTHORITY)])
    link.flush()
    waiting, back, statuses, ended = PAYLOAD, b"", {}, False
    tunnelled = sent = False
    while not ended or len(statuses) < 2:
        for event in link.events():
            if isinstance(event, ResponseReceived):
                statuses[event.stream_id] = dict(event.headers)[":status"]
                tunnelled = statuses.get(1) == "200"
            elif isinstance(event, DataReceived) and event.stream_id == 1:
                back += event.data
            elif isinstance(event, StreamEnded) and event.stream_id == 1:
                ended = True
            elif isinstance(event, StreamReset) and event.stream_id == 1:
                raise SystemExit("the tunnel was reset")
        if tunnelled and not sent:
            waiting = link.push(1, waiting)
            if not waiting:
                sent = True
                link.h2.end_stream(1)
                link.flush()
    assert back == PAYLOAD, f"{len(back)} bytes came back"
    print(statuses[1], statuses[3])


def server():
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    link = Link(listener.accept()[0], False)
    waiting, ended = {}, set()
    while True:
        for event in link.events():
            if isinstance(event, RequestReceived):
                headers = dict(event.headers)
                assert headers[":method"] == "CONNECT" and ":path" not in headers, headers
                print(headers[":authority"], flush=True)
                link.h2.send_headers(event.stream_id, [(":status", "200"), ("baggage", "service.name=python")])
                waiting[event.stream_id] = b""
            elif isinstance(event, DataReceived):
                waiting[event.stream_id] += event.data
            elif isinstance(event, StreamEnded):
                ended.add(event.stream_id)
        for stream in list(waiting):
            waiting[stream] = link.push(stream, waiting[stream])
            if stream in ended and not waiting[stream]:
                link.h2.end_stream(stream)
                del waiting[stream]
        link.flush()


if __name__ == "__main__":
    client(sys.argv[2]) if sys.argv[1] == "client" else server()
