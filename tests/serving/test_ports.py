import socket

import pytest

from reelkind.serving.errors import ServingError
from reelkind.serving.ports import LOOPBACK, Addresses, claim, is_open


@pytest.fixture
def taken():
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


def test_zero_picks_different_free_ports():
    addresses = claim(LOOPBACK, 0, 0, 0)
    assert len(set(addresses.ports)) == 3
    assert not any(is_open(LOOPBACK, port) for port in addresses.ports)


@pytest.mark.parametrize("position", [0, 1, 2], ids=["grpc", "http", "metrics"])
def test_taken_port_is_named_with_its_option(taken, position):
    ports = [0, 0, 0]
    ports[position] = taken
    option = ("--grpc-port", "--http-port", "--metrics-port")[position]
    with pytest.raises(ServingError, match=rf"^port {taken} on {LOOPBACK} is taken: .*{option}$"):
        claim(LOOPBACK, *ports)


@pytest.mark.parametrize(
    ("host", "port", "sentence"),
    [
        (LOOPBACK, 65536, "65536 is not a port"),
        (LOOPBACK, -1, "-1 is not a port"),
        ("no such host", 0, "neither an IPv4 address nor a name"),
        ("\udcff", 0, "neither an IPv4 address nor a name"),
        ("192.0.2.1", 0, "not an address of this machine"),  # TEST-NET-1, RFC 5737
    ],
)
def test_impossible_addresses_are_refused(host, port, sentence):
    with pytest.raises(ServingError, match=sentence):
        claim(host, port, 0, 0)


def test_all_interfaces_are_reached_through_loopback():
    addresses = Addresses("0.0.0.0", 1, 2, 3)
    assert addresses.reach == LOOPBACK
    assert addresses.exposed
    assert not Addresses("127.0.0.1", 1, 2, 3).exposed
