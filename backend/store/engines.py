"""Which engine keeps the store: the one place that knows both; loads no torch."""

from backend.settings import Settings
from backend.store.contract import Store
from backend.store.redis import RedisStore
from backend.store.sqlite import SqliteStore

STORE_FILE = "store.sqlite3"
"""Name of the SQLite engine's file in DATA_DIR."""


def open_engine(settings: Settings, *, patient: bool = False) -> Store:
    """The store that the settings name: in Redis where REDIS_URL is set, else in an SQLite file in DATA_DIR.

    Args:
        settings: REDIS_URL and DATA_DIR count.
        patient: whether a Redis that is away now may come later; until then every method raises.

    Raises:
        StoreError: it cannot be used.
    """
    if address := settings.redis_url.get_secret_value():
        return RedisStore(address, patient=patient)
    return SqliteStore(settings.data_dir / STORE_FILE)
