"""The model server's address, and the addresses behind its name."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

# What a host name stands for now. Raises OSError (TimeoutError too) when DNS does not say.
Resolve = Callable[[str], Awaitable[Sequence[str]]]

_NO_ADDRESS = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


@dataclass(frozen=True)
class Endpoint:
    """A base URL, which ends in its ``/v1``, such as ``http://onggi-vllm:8000/v1``."""

    base_url: str

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.base_url)

    @property
    def host(self) -> str:
        """The host's name or literal address."""
        return self._parts.hostname or ""

    @property
    def is_hosted(self) -> bool:
        """Whether it is reached by TLS: somebody else's service, asked no more often than is needed."""
        return self._parts.scheme == "https"

    @property
    def is_name(self) -> bool:
        """Whether each address behind the name is a replica of its own.

        Not so for a literal address; for TLS, whose certificate is the name's; or for this machine, whose
        name stands for one server at two addresses.
        """
        parts = self._parts
        return not (self.is_hosted or parts.username or _is_this_machine(self.host) or _is_literal(self.host))

    @property
    def host_header(self) -> str:
        """What a server that is reached by an address is told that it was called."""
        return self._parts.netloc

    def at(self, address: str) -> str:
        """The base URL of the replica at ``address``."""
        port = f":{self._parts.port}" if self._parts.port else ""
        literal = f"[{address}]" if ":" in address else address
        return self._parts._replace(netloc=f"{literal}{port}").geturl()


def health_url(base_url: str) -> str:
    """Where vLLM says how it is: beside ``/v1`` and not below it."""
    return f"{base_url.removesuffix('/v1')}/health"


async def resolve(host: str) -> Sequence[str]:
    """The addresses of ``host``, IPv4's where it has any; none when the name has none now."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in _NO_ADDRESS:
            return []
        raise
    # A pod with an address of each family is one replica, and vLLM listens on 0.0.0.0.
    family = min(family for family, *_ in found)
    return sorted({str(address[0]) for found_family, *_, address in found if found_family == family})


def _is_this_machine(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
