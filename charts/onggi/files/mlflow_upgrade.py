"""Wait for MLflow's database, then `mlflow db upgrade`: what MLflow's init container runs.

MLflow starts on no database but its own version's, so after an upgrade of MLflow the way back is a backup. A
rollback between two releases of onggi with the same MLflow needs none.
"""

import os
import sys
import time

import mlflow.db
import sqlalchemy
from alembic.util import CommandError

WAIT_SECONDS = 600


def main() -> None:
    """Wait, then bring an empty or older database up to this MLflow's schema."""
    url = os.environ["MLFLOW_BACKEND_STORE_URI"]
    wait(url)
    try:
        mlflow.db.commands.main(["upgrade", url], standalone_mode=False)
    except CommandError as error:
        sys.exit(f"error: a newer MLflow has changed this database ({error}): use its image again")


def wait(url: str) -> None:
    """Return when the database answers; exit with a sentence when it does not in ten minutes."""
    engine = sqlalchemy.create_engine(url)
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            engine.connect().close()
            return
        except sqlalchemy.exc.OperationalError as error:
            reason = str(error.orig).splitlines()[0]
        if time.monotonic() > until:
            sys.exit(f"error: the database does not answer: {reason}")
        print(f"waiting for the database: {reason}", flush=True)
        time.sleep(2)


main()
