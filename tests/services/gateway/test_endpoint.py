from contextlib import suppress

import pytest

from services.gateway.endpoint import Endpoint, health_url, resolve


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "http://[::1]:8000/v1",
        "http://localhost:11434/v1",
        "https://api.example.com/v1",
        "https://vllm.onggi.svc:8443/v1",
        "http://user:word@proxy/v1",
    ],
)
def test_a_literal_address_this_machine_and_a_certificates_name_are_one_replica(url: str) -> None:
    assert not Endpoint(url).is_name


def test_each_address_of_a_name_is_a_replica_that_is_told_the_name() -> None:
    endpoint = Endpoint("http://onggi-vllm.onggi.svc:8000/base/v1")
    assert endpoint.is_name
    assert endpoint.host == "onggi-vllm.onggi.svc"
    assert endpoint.host_header == "onggi-vllm.onggi.svc:8000"
    assert endpoint.at("10.0.0.7") == "http://10.0.0.7:8000/base/v1"
    assert endpoint.at("fd00::7") == "http://[fd00::7]:8000/base/v1"
    assert Endpoint("http://vllm/v1").at("10.0.0.7") == "http://10.0.0.7/v1"


def test_vllms_health_is_beside_its_v1() -> None:
    assert health_url("http://10.0.0.7:8000/v1") == "http://10.0.0.7:8000/health"
    assert health_url("http://10.0.0.7:8000/base/v1") == "http://10.0.0.7:8000/base/health"


async def test_a_name_is_its_addresses_of_one_family_and_an_unknown_one_has_none() -> None:
    assert await resolve("localhost") == ["127.0.0.1"]
    with suppress(OSError):  # where no DNS can be asked
        assert await resolve("no-such-host.invalid") == []
