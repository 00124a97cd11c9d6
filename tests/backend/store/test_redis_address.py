"""Addresses of a Redis: what is understood, what people see of it, who is let in."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NoReturn

import pytest

from backend.demo.process import free_port
from backend.errors import StoreError
from backend.store.redis import RedisStore
from backend.store.redis_address import Address, is_address
from tests.backend.redis_server import RedisServer, Sentinel


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://me:secret@redis.local:6380/3", "redis://redis.local:6380/3"),
        ("redis://:a@b@redis.local", "redis://redis.local:6379/0"),
        ("rediss://:secret@[::1]/1?ssl_ca_certs=ca.pem", "rediss://[::1]:6379/1"),
        ("unix://:secret@/run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        (
            "redis+sentinel://:secret@a:1,b/mymaster/2?sentinel_password=secret",
            "redis+sentinel://a:1,b:26379/mymaster/2",
        ),
    ],
)
def test_an_address_is_shown_without_user_password_and_options(text: str, shown: str) -> None:
    address = Address.parse(text)
    assert is_address(text)
    assert address.shown == shown
    assert "secret" not in repr(address)
    with closing(address.pool()) as pool:
        assert "secret" not in repr(pool)


@pytest.mark.parametrize(
    "text",
    [
        "redis.local:6379",
        "http://redis.local",
        "redis://",
        "redis://:secret/1@redis.local",
        "redis://user:12#34@redis.local",
        "redis://redis.local/one",
        "redis://redis.local/0?decode_responses=true",
        "redis://redis.local/0?ssl_ca_certs=ca.pem",
        "redis://a,b/0",
        "redis+sentinel://a,b",
        "unix://",
    ],
)
def test_what_is_no_address_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(StoreError, match=r"cannot be read\. Write redis://") as refused:
        Address.parse(text)
    assert "secret" not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.redis
class TestPasswords:
    def test_the_right_password_opens_and_a_wrong_one_is_not_shown(
        self, redis_server: RedisServer, tmp_path: Path
    ) -> None:
        with RedisServer(tmp_path / "locked", requirepass="p@ss:w/rd#1") as server:
            RedisStore(f"redis://:p%40ss%3Aw%2Frd%231@127.0.0.1:{server.port}").close()
            for login in ("", ":wr0ng-4711@", "somebody:wr0ng-4711@"):
                with pytest.raises(StoreError, match="refused the user or the password") as refused:
                    RedisStore(f"redis://{login}127.0.0.1:{server.port}")
                assert "4711" not in str(refused.value)

    def test_a_user_who_may_do_too_little_is_told_what_is_missing(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client:
            client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read")
            with pytest.raises(StoreError, match=r"does not let.*~seggpt:\*"):
                RedisStore(f"redis://reader:secret@127.0.0.1:{redis_server.port}")
            client.execute_command("ACL", "DELUSER", "reader")

    def test_rights_to_our_keys_alone_are_enough(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client:
            client.execute_command(
                "ACL", "SETUSER", "ours", "on", ">secret", "~seggpt:*", "+@all", "-@admin", "+info"
            )
            with closing(RedisStore(f"redis://ours:secret@127.0.0.1:{redis_server.port}")) as store:
                store.put_label_config("12.1700000000", "<View/>", "f1")
                assert [project.targets for project in store.projects()] == ["f1"]
                assert store.warnings() == []
            client.execute_command("ACL", "DELUSER", "ours")


@pytest.mark.redis
class TestWays:
    def test_a_socket_leads_to_the_store(self, started_redis: RedisServer, tmp_path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
            socket = Path(folder) / "redis.sock"
            with (
                RedisServer(tmp_path / "redis", unixsocket=str(socket)) as server,
                closing(RedisStore(server.url)) as one,
                closing(RedisStore(f"unix://{socket}")) as other,
            ):
                one.set_note("seen", "yes")
                assert other.note("seen") == "yes"

    def test_sentinels_lead_to_the_primary_also_after_it_has_changed(
        self, started_redis: RedisServer, tmp_path: Path
    ) -> None:
        with ExitStack() as running:
            primary = running.enter_context(RedisServer(tmp_path / "primary", repl_diskless_sync_delay="0"))
            replica = running.enter_context(
                RedisServer(tmp_path / "replica", replicaof=f"127.0.0.1 {primary.port}")
            )
            sentinel = running.enter_context(Sentinel(tmp_path / "sentinel", primary.port))
            address = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/ours/0"
            store = running.enter_context(closing(RedisStore(address)))
            store.set_note("seen", "yes")
            with pytest.raises(StoreError, match=r"No sentinel .* names a primary"):
                RedisStore(address.replace("ours", "theirs"))
            with replica.client() as client, primary.client() as before:
                before.set("last", "words")  # WAIT is about what this connection wrote, and so all before it
                assert before.wait(1, 300_000) == 1
                client.execute_command("REPLICAOF", "NO", "ONE")
                before.execute_command("REPLICAOF", "127.0.0.1", str(replica.port))
            with pytest.raises(StoreError, match=r"is a replica|previous master"):
                store.set_note("seen", "no")
            sentinel.watch(replica.port)
            assert store.note("seen") == "yes"
            store.set_note("seen", "again")
            with replica.client() as client:
                assert client.hget("seggpt:notes", "seen") == b"again"

    def test_tls_leads_to_the_store_and_a_stranger_s_certificate_does_not(
        self, started_redis: RedisServer, tmp_path: Path, missing: Callable[[str], NoReturn]
    ) -> None:
        if shutil.which("openssl") is None:
            missing("no openssl, which makes the certificate")
        certificate, private = tmp_path / "certificate.pem", tmp_path / "private.pem"
        words = "req -x509 -newkey ed25519 -nodes -days 2 -subj /CN=redis -addext subjectAltName=IP:127.0.0.1"
        command = ["openssl", *words.split(), "-keyout", str(private), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own words
        port = free_port()
        options = {"tls_cert_file": certificate, "tls_key_file": private, "tls_ca_cert_file": certificate}
        named = {name: str(file) for name, file in options.items()}
        with RedisServer(tmp_path / "redis", tls_port=str(port), tls_auth_clients="no", **named):
            address = f"rediss://127.0.0.1:{port}/0"
            with closing(RedisStore(f"{address}?ssl_ca_certs={certificate}")) as store:
                store.set_note("seen", "yes")
                assert store.note("seen") == "yes"
            with pytest.raises(StoreError, match=r"cannot be reached .*CERTIFICATE_VERIFY_FAILED"):
                RedisStore(address)
