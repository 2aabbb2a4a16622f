"""What holds for every test: one thread, and no network unless the test is marked `hub`."""

import os
import socket

import pytest

# set here, before a test module imports the libraries that read them
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "HF_HUB_OFFLINE"):
    os.environ.setdefault(name, "1")

LOCAL = ("127.0.0.1", "::1", "localhost")  # torch.distributed and worker processes talk to this machine only


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("hub"):
        return
    connect = socket.socket.connect

    def guarded(self: socket.socket, address):
        if isinstance(address, tuple) and address[0] not in LOCAL:
            raise AssertionError(f"a test reached for the network: {address}; mark it `hub` if it must")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
