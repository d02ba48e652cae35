"""TransportContract: a suite that the author of a transport runs on it. Needs pytest, and no plugin of it."""

from grctl.testing.transport_contract.lifetime import LifetimeCases
from grctl.testing.transport_contract.records import RecordCases
from grctl.testing.transport_contract.requests import RequestCases

__all__ = ["TransportContract"]


class TransportContract(RequestCases, RecordCases, LifetimeCases):
    """What every transport promises (``grctl.protocols.Connection``), as a suite of tests.

    Subclass it in a test module, say how to serve, and let pytest find it. No plugin of pytest is needed:

        from contextlib import asynccontextmanager
        from grctl.testing import DevServer, TransportContract

        class TestMyTransport(TransportContract):
            @asynccontextmanager
            async def serve(self):
                async with DevServer(self.workflows) as server:
                    yield lambda: MyConnection.open(server.url)

    Each case has an event loop, a server and connections of its own.
    """
