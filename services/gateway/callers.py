"""Who is calling: credentials checked against the database, and remembered for a few seconds."""

import hashlib
import time
from collections import OrderedDict

from common.openai_errors import OpenAIError
from services.database.away import needs_database
from services.database.credentials import Caller, authenticate, first_owner
from services.database.engine import Database

# How long a revoked key may still work.
REMEMBERED_SECONDS = 3.0
LARGEST_MEMORY = 10_000


class Callers:
    """Turns an ``Authorization`` header into a person. Only what was accepted is remembered."""

    def __init__(self, database: Database, jwt_secret: str, *, enable_auth: bool) -> None:
        self._database = database
        self._jwt_secret = jwt_secret
        self._enable_auth = enable_auth
        self._known: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    async def identify(self, authorization: str | None) -> Caller:
        """The person behind the header; the first owner when authentication is off.

        Raises:
            OpenAIError: 401 when it opens nothing, 503 when the database is away.
        """
        bearer = self._bearer(authorization)
        digest = hashlib.sha256(bearer.encode()).digest()
        until, caller = self._known.get(digest, (0.0, None))
        if caller is not None and time.monotonic() < until:
            return caller
        caller = await self._look_up(bearer)
        self._remember(digest, caller)
        return caller

    def _bearer(self, authorization: str | None) -> str:
        if not self._enable_auth:
            return ""
        scheme, _, bearer = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not bearer.strip():
            raise OpenAIError(
                401, "You didn't provide an API key: send the header Authorization: Bearer YOUR_KEY."
            )
        return bearer.strip()

    async def _look_up(self, bearer: str) -> Caller:
        with needs_database():
            async with self._database.read() as session:
                if not self._enable_auth:
                    caller = await first_owner(session)
                else:
                    caller = await authenticate(session, bearer, self._jwt_secret)
        if caller is None:
            raise OpenAIError(401, "Incorrect API key provided.", code="invalid_api_key")
        return caller

    def _remember(self, digest: bytes, caller: Caller) -> None:
        self._known[digest] = (time.monotonic() + REMEMBERED_SECONDS, caller)
        self._known.move_to_end(digest)
        while len(self._known) > LARGEST_MEMORY:
            self._known.popitem(last=False)
