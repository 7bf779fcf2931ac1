"""Test delivery to Tinybird over TLS: compression, certificates and deadlines."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.browsers import hit, hit_together
from tests.support.fake_tinybird import Answer, Request, dripping, dripping_headers, hanging, reset_in_mid_answer
from tests.support.processes import wait_until
from tests.support.running import running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make the certificate"),
]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a certificate and its key in one file."""
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=tinybird"
    subprocess.run(
        ["openssl", *request.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", file, "-out", f"{file}.crt"],
        check=True,
        capture_output=True,
    )
    with file.open("a") as pem:
        pem.write(file.with_name(file.name + ".crt").read_text())
    return file


@pytest.fixture(scope="module")
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_batches_are_compressed(tmp_path: Path, certificate: Path, tls: ssl.SSLContext) -> None:
    trusted = f"{certificate}.crt"
    with running(tmp_path / "data", "app:app", tls, DELIVERY="spool", REQUESTS_CA_BUNDLE=trusted) as (service, fake):
        outcomes = hit_together(service.port, 50)
        fake.wait_for([each.event_id for each in outcomes], 10)
        assert set(fake.delivered.values()) == {1}
        assert any(each.headers.get("content-encoding") == "gzip" for each in fake.requests)


def test_an_untrusted_certificate_receives_no_event(tmp_path: Path, tls: ssl.SSLContext) -> None:
    with running(tmp_path / "data", "app:app", tls, DELIVERY="direct") as (service, fake):
        outcomes = hit(service.port, 10)
        assert {each.status for each in outcomes} == {202}
        assert max(each.seconds for each in outcomes) < 5
        assert service.waiting() == 10
        assert fake.requests == []


@pytest.mark.parametrize("failure", [hanging, reset_in_mid_answer, dripping, dripping_headers])
def test_no_hit_waits_long_for_a_response_over_tls(
    tmp_path: Path, certificate: Path, tls: ssl.SSLContext, failure: Callable[[Request], Answer]
) -> None:
    trusted = f"{certificate}.crt"
    with running(
        tmp_path / "data", "app:app", tls, DELIVERY="direct", REQUESTS_CA_BUNDLE=trusted, WEB_CONCURRENCY="1"
    ) as (
        service,
        fake,
    ):
        fake.fail(failure)
        outcomes = hit_together(service.port, 30)
        assert {each.status for each in outcomes} == {202}
        assert max(each.seconds for each in outcomes) < 5
        fake.heal()
        fake.wait_for([each.event_id for each in outcomes], 20)
        wait_until(lambda: service.waiting() == 0)
        assert set(fake.delivered.values()) == {1}
