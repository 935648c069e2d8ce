"""The address of a tracker's server or database."""

from pathlib import Path
from urllib.parse import urlsplit


def shown(uri: str) -> str:
    """Give an address without name and password."""
    parts = urlsplit(uri)
    return uri.replace(f"{parts.netloc.rpartition('@')[0]}@", "") if "@" in parts.netloc else uri


def folder_beside(uri: str) -> str | None:
    """Give the folder beside an SQLite database for the files of a new experiment of MLflow, as an address.

    None for any other, whose server knows one. MLflow's own choice would be `mlruns` in the working folder.
    """
    if not uri.startswith("sqlite:"):
        return None
    # Late, since it comes with MLflow.
    from sqlalchemy.engine import make_url

    database = make_url(uri).database
    return (Path(database).absolute().parent / "mlflow-artifacts").as_uri() if database else None
