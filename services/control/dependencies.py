"""What routes ask for: the session, the caller, and the caller's right to be there."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession

from common.openai_errors import OpenAIError
from services.control.context import Control
from services.database import credentials
from services.database.credentials import Caller
from services.database.queries.bots import Author

# No errors of its own: refusals are ours, in OpenAI's shape.
_bearer = HTTPBearer(auto_error=False, description="An API key, or a session token.")


def _control(request: Request) -> Control:
    control: Control = request.app.state.control
    return control


ControlDep = Annotated[Control, Depends(_control)]


async def _write(control: ControlDep) -> AsyncIterator[AsyncSession]:
    async with control.database.session() as session:
        yield session


async def _read(control: ControlDep) -> AsyncIterator[AsyncSession]:
    async with control.database.read() as session:
        yield session


# scope="function": committed before the answer is sent, so that an answer never tells of what did not last.
WriteSession = Annotated[AsyncSession, Depends(_write, scope="function")]
ReadSession = Annotated[AsyncSession, Depends(_read, scope="function")]


def _token(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    return given.credentials if given else ""


Token = Annotated[str, Depends(_token)]


async def _caller(control: ControlDep, token: Token) -> Caller:
    # A session of its own: what follows may take long, and must not begin inside this transaction.
    async with control.database.read() as session:
        if not control.settings.enable_auth:
            caller = await credentials.first_owner(session)
        else:
            caller = await credentials.authenticate(session, token, control.settings.jwt_secret)
    if caller is None:
        raise _unauthorized(token)
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]


def _owner(caller: CallerDep) -> Caller:
    if not caller.is_owner:
        raise OpenAIError(403, "Only an owner may do this: ask one of your team's owners.")
    return caller


OwnerDep = Annotated[Caller, Depends(_owner)]


def is_job(control: Control, token: str) -> bool:
    """Whether ``token`` is the one that jobs report with."""
    expected = control.settings.control_token.get_secret_value()
    return bool(expected) and credentials.same(token, expected)


def _job(control: ControlDep, token: Token) -> None:
    if not is_job(control, token):
        raise OpenAIError(401, "This is for jobs: send CONTROL_TOKEN as the bearer token.")


JobToken = Depends(_job)


async def _reader(control: ControlDep, token: Token) -> Caller:
    """A person, or a job, which is let in as the first owner: datasets are made of everybody's words."""
    if not is_job(control, token):
        return await _caller(control, token)
    async with control.database.read() as session:
        owner = await credentials.first_owner(session)
    if owner is None:
        raise OpenAIError(503, "There is no owner yet: start control once with ADMIN_USERNAME set.")
    return owner


ReaderDep = Annotated[Caller, Depends(_reader)]
# The same where something is made: a retrain uploads files and asks for a fine-tune.
PersonOrJobDep = ReaderDep


def _owner_or_job(caller: ReaderDep) -> Caller:
    return _owner(caller)


OwnerOrJobDep = Annotated[Caller, Depends(_owner_or_job)]


async def _decider(control: ControlDep, token: Token) -> Author:
    """Who decides what is served: an owner or, on what people said, the job that may."""
    if is_job(control, token):
        return Author(None, "jobs.promote")
    owner = _owner(await _caller(control, token))
    return Author(owner.person_id, owner.name)


DeciderDep = Annotated[Author, Depends(_decider)]


def _idempotency_key(
    key: Annotated[
        str | None,
        Header(alias="Idempotency-Key", max_length=255, description="the same key makes the same thing once"),
    ] = None,
) -> str | None:
    return key


IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]


def _unauthorized(token: str) -> OpenAIError:
    problem = "Incorrect API key provided." if token else "You didn't provide an API key."
    return OpenAIError(
        401,
        f"{problem} Send it as `Authorization: Bearer <key>`; an owner makes keys at POST /onggi/v1/keys.",
        type="invalid_request_error",
        code="invalid_api_key",
    )
