"""The edge behind TLS and behind a proxy."""

import socket
import ssl
import subprocess
import sys

import httpx
import pytest
import trustme

from contract.settings import child_environment

from .conftest import wait_until
from .test_edge import body


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files by name: the authority, a certificate for 127.0.0.1 and its key, and invalid files."""
    folder = tmp_path_factory.mktemp("tls")
    authority, other = trustme.CA(), trustme.CA()
    server, stranger = authority.issue_cert("127.0.0.1"), other.issue_cert("127.0.0.1")
    client = authority.issue_cert("device@example.org")
    paths = {name: folder / f"{name}.pem" for name in (
        "authority", "other", "certificate", "key", "other-key", "client", "text"
    )}  # fmt: skip
    authority.cert_pem.write_to_path(paths["authority"])
    other.cert_pem.write_to_path(paths["other"])
    server.cert_chain_pems[0].write_to_path(paths["certificate"])
    server.private_key_pem.write_to_path(paths["key"])
    stranger.private_key_pem.write_to_path(paths["other-key"])
    client.private_key_and_cert_chain_pem.write_to_path(paths["client"])
    paths["text"].write_text("this is no PEM")
    return paths


@pytest.fixture
def secured(pipeline, files):
    """A pipeline whose edge speaks TLS; its tools trust the authority."""
    pipeline.values |= {
        "HTTP_TLS_CERTIFICATE": str(files["certificate"]), "HTTP_TLS_KEY": str(files["key"]),
    }  # fmt: skip
    pipeline.url = pipeline.url.replace("http:", "https:")
    return pipeline


def start(pipeline, *options, **values):
    arguments = ("ingest_edge", "--port", str(pipeline.port), *options)
    edge = pipeline.children.start(
        "edge", *arguments, env=child_environment(pipeline.values | values)
    )
    ready = "worker ready" if options else "edge ready"
    wait_until(
        lambda: (
            pipeline.children.check() or ready in [line["event"] for line in pipeline.log("edge")]
        )
    )
    wait_until(lambda: _listens(pipeline.port))
    return edge


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "workers"])
def test_devices_and_tools_post_over_tls(secured, files, tmp_path, options):
    rig = secured.register()
    start(secured, *options)
    context = ssl.create_default_context(cafile=str(files["authority"]))
    with httpx.Client(base_url=secured.url, verify=context) as client:
        assert client.post("/ingest/packets", json=body(rig)).status_code == 202
        assert client.post("/ingest/packets", json=body(rig, "x")).status_code == 422
    trusted = {"SSL_CERT_FILE": str(files["authority"])}
    checked = secured.iot("check-edge", secured.url, **trusted)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    series = tmp_path / "series.csv"
    series.write_text("time,a\n2024-01-01 00:00:00,1\n")
    feed = ("feed", str(series), "--device", "new", "--url", secured.url)
    fed = secured.iot(*feed, **trusted)
    assert fed.returncode == 0, fed.stdout + fed.stderr
    for command in (("check-edge", secured.url), feed):
        refused = secured.iot(*command, SSL_CERT_FILE=str(files["other"]))
        assert refused.returncode == 1
        assert "SSL_CERT_FILE: the certificate of" in refused.stderr
        assert refused.stderr.count("iot: ") == 1


def test_a_plain_request_to_tls_and_an_old_protocol_are_refused(secured, files):
    start(secured)
    plain = secured.url.replace("https:", "http:")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{plain}/health")
    context = ssl.create_default_context(cafile=str(files["authority"]))
    assert httpx.get(f"{secured.url}/health", verify=context).status_code == 200
    assert "Traceback" not in (secured.folder / "edge.log").read_text()


def test_only_clients_of_a_configured_authority_are_accepted(secured, files):
    start(secured, HTTP_TLS_CLIENT_CA=str(files["authority"]))
    context = ssl.create_default_context(cafile=str(files["authority"]))
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{secured.url}/health", verify=context)
    context.load_cert_chain(files["client"])
    assert httpx.get(f"{secured.url}/health", verify=context).status_code == 200


@pytest.mark.parametrize(
    ("certificate", "key", "more", "words"),
    [
        ("certificate", None, {}, "HTTP_TLS_KEY is not set"),
        (None, "key", {}, "HTTP_TLS_CERTIFICATE is not set"),
        ("/nowhere", "key", {}, "HTTP_TLS_CERTIFICATE: /nowhere cannot be read"),
        ("certificate", "/nowhere", {}, "HTTP_TLS_KEY: /nowhere cannot be read"),
        ("certificate", "other-key", {}, "does not belong to the certificate in"),
        ("text", "key", {}, "not a certificate and its key in PEM format"),
        ("certificate", "key", {"HTTP_TLS_CLIENT_CA": "text"}, "HTTP_TLS_CLIENT_CA: "),
        (None, None, {"FORWARDED_ALLOW_IPS": "my-proxy"}, "FORWARDED_ALLOW_IPS: "),
        (None, None, {"HTTP_KEEP_ALIVE_SECONDS": "0"}, "HTTP_KEEP_ALIVE_SECONDS: "),
    ],
)
@pytest.mark.parametrize("program", ["ingest_edge", "ml.service"])
def test_a_wrong_file_is_named_in_one_line(pipeline, files, program, certificate, key, more, words):
    given = {"HTTP_TLS_CERTIFICATE": certificate, "HTTP_TLS_KEY": key} | more
    values = {name: str(files.get(value, value)) for name, value in given.items() if value}
    finished = subprocess.run(
        [sys.executable, "-m", program, "--port", str(pipeline.port)],
        env=child_environment(pipeline.values | values),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert finished.returncode == 78
    (line,) = [line for line in finished.stderr.splitlines() if '"info"' not in line]
    assert words in line


@pytest.mark.parametrize(
    ("trusted", "client"),
    [(None, "203.0.113.9"), ("192.0.2.1", "127.0.0.1"), ("127.0.0.0/8", "203.0.113.9")],
)
def test_the_log_has_the_client_address_from_a_trusted_proxy(pipeline, trusted, client):
    pipeline.start_edge(**({"FORWARDED_ALLOW_IPS": trusted} if trusted else {}))
    pipeline.post({}, **{"X-Forwarded-For": "198.51.100.7, 203.0.113.9"})
    (refused,) = [line for line in pipeline.log("edge") if line["event"] == "refused"]
    assert refused["client"] == client
