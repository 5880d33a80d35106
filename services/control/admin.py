"""The admin pages: tables to look at behind a login of their own, with no way around a decision's swap.

The one thing that is begun here is a retrain, which decides nothing.
"""

import hashlib
import time
from collections import deque
from collections.abc import Iterable
from types import new_class
from typing import Any

from fastapi import FastAPI
from sqladmin import Admin, ModelView, action
from sqladmin.authentication import AuthenticationBackend
from sqladmin.fields import SelectField
from sqladmin.pagination import Pagination
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from common import logging
from common.openai_errors import OpenAIError
from common.storage import StorageUnavailable
from services.control import claims, retraining
from services.control.context import Control
from services.control.runner import RunnerUnavailable
from services.control.settings import ControlSettings
from services.database import credentials
from services.database.tables import (
    Bot,
    Comparison,
    Completion,
    Dataset,
    Decision,
    Feedback,
    File,
    Invite,
    Key,
    Person,
    Retrain,
    Tombstone,
    Version,
)

FAILURES = 5
WINDOW_SECONDS = 300.0


class Login(AuthenticationBackend):
    """ADMIN_USERNAME and ADMIN_PASSWORD; after five wrong tries nobody gets in for five minutes."""

    def __init__(self, settings: ControlSettings) -> None:
        # Not the sessions' own secret: a cookie of these pages must never pass for a token.
        secret = hashlib.sha256(f"admin pages:{settings.jwt_secret}".encode()).hexdigest()
        super().__init__(secret_key=secret, session_cookie="onggi_admin", same_site="strict", path="/admin")
        self._username = settings.admin_username
        self._password = settings.admin_password.get_secret_value()
        self._failures: deque[float] = deque(maxlen=FAILURES)

    async def login(self, request: Request) -> bool:
        """Whether the form's name and password are right, and there were not too many wrong ones."""
        if self._locked():
            logging.get("system").warning("admin login locked after failures", seconds=WINDOW_SECONDS)
            return False
        form = await request.form()
        name, password = str(form.get("username", "")), str(form.get("password", ""))
        right = [credentials.same(name, self._username), credentials.same(password, self._password)]
        if not all(right):
            self._failures.append(time.monotonic())
            return False
        request.session.update({"admin": True})
        return True

    async def logout(self, request: Request) -> bool:
        """Forget the session."""
        request.session.clear()
        return True

    async def authenticate(self, request: Request) -> bool:
        """Whether this session has logged in."""
        return bool(request.session.get("admin"))

    def _locked(self) -> bool:
        full = len(self._failures) == FAILURES
        return full and time.monotonic() - self._failures[0] < WINDOW_SECONDS


class _ReadOnly(ModelView):
    """A table to look at. Nothing is exported from here: people's words have one way out, the API."""

    can_create = False
    can_edit = False
    can_delete = False
    can_export = False
    page_size = 50


def _view(table: Any, plural: str, icon: str, columns: str, **attributes: Any) -> type[ModelView]:
    """A page of ``table`` with these columns, in the list and for one row; to look at by default."""
    shown = [getattr(table, column) for column in columns.split()]
    body = {"name": table.__name__, "name_plural": plural, "icon": f"fa-solid fa-{icon}"}
    body |= {"column_list": shown, "column_details_list": shown, **attributes}
    return new_class(f"{table.__name__}Admin", (_ReadOnly,), {"model": table}, lambda page: page.update(body))


_PERSON_FORM = {
    "can_edit": True,
    "form_columns": ["name", "email", "role", "disabled_at"],
    "form_overrides": {"role": SelectField},
    "form_args": {"role": {"choices": ["owner", "member"]}},
}


@action("retrain", "Retrain", "Train it now on what people said, whatever minimum, hours and budget say?")
async def _retrain(_: ModelView, request: Request) -> Response:
    """The button on a bot's page: as POST /onggi/v1/bots/{bot}/retrain with ``force``."""
    control: Control = request.app.state.control
    try:
        for name in filter(None, request.query_params.get("pks", "").split(",")):
            await retraining.begin(control, control.settings.admin_username, name, force=True)
    except OpenAIError as refused:
        return PlainTextResponse(refused.message, refused.status)
    return RedirectResponse(request.url_for("admin:list", identity="retrain"), 303)


async def _list_retrains(page: ModelView, request: Request) -> Pagination:
    found = await ModelView.list(page, request)
    await _tell_failures(request, found.rows)
    return found


async def _show_retrain(page: ModelView, request: Request) -> Any:
    row = await ModelView.get_object_for_details(page, request)
    await _tell_failures(request, [row] if row else [])
    return row


async def _tell_failures(request: Request, rows: Iterable[Retrain]) -> None:
    """Why fine-tunes failed is in the runner's record; of the rows only what is shown here is changed."""
    try:
        jobs = await claims.fine_tunes(request.app.state.control)
    except (RunnerUnavailable, StorageUnavailable):
        return  # the table is there all the same
    for row in rows:
        row.reason = claims.failure(row, claims.fine_tune(row, jobs)) or row.reason


VIEWS: list[type[ModelView]] = [
    _view(Person, "People", "user", "id name email role created_at disabled_at", **_PERSON_FORM),
    _view(Invite, "Invites", "envelope", "id role person_id created_at expires_at used_at used_by"),
    _view(Key, "Keys", "key", "id person_id name prefix store_default created_at revoked_at"),
    _view(
        Bot,
        "Bots",
        "robot",
        "name base champion previous candidate share shadow pinned generation created_at",
        retrain=_retrain,
    ),
    _view(Version, "Versions", "code-branch", "bot number state sentence base rank job_id created_at"),
    _view(
        Decision,
        "Decisions",
        "gavel",
        "bot generation action champion candidate share author reason created_at",
        column_default_sort=("created_at", True),
    ),
    _view(File, "Files", "file", "id person_id filename purpose bytes sha256 created_at deleted_at"),
    _view(
        Completion,
        "Completions",
        "comment",
        "id person_id model bot version arm status prompt_tokens completion_tokens latency_ms created_at",
    ),
    _view(
        Feedback,
        "Feedback",
        "thumbs-up",
        "id person_id bot version rating correction comment state reviewed_by updated_at",
    ),
    _view(
        Comparison,
        "Comparisons",
        "scale-balanced",
        "id person_id bot first_version second_version choice created_at chosen_at",
    ),
    _view(Dataset, "Datasets", "table", "digest bot figures training_file validation_file created_at"),
    _view(
        Retrain,
        "Retrains",
        "rotate",
        "id bot state job_id reason author dataset_digest updated_at",
        list=_list_retrains,
        get_object_for_details=_show_retrain,
    ),
    _view(Tombstone, "Tombstones", "eraser", "id kind subject author created_at"),
]


def mount(app: FastAPI, control: Control) -> None:
    """Put the pages at /admin."""
    admin = Admin(
        app,
        engine=control.database.engine,
        title="Onggi",
        authentication_backend=Login(control.settings),
    )
    admin.admin.state.control = control
    for view in VIEWS:
        admin.add_view(view)
