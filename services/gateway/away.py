"""What a connection that is lost looks like from here."""


def describe_connection(error: Exception) -> str:
    """What went wrong with a connection, for a log: the kind of ``error`` and its words."""
    return f"{type(error).__name__}: {error}"
