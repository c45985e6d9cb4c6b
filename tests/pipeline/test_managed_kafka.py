"""A Kafka that requires TLS, a user or a client certificate, like managed services."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import uuid4

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from contract.errors import IotError, SettingError, SetupError
from contract.settings import child_environment, load_settings
from ops.children import Children
from runtime.kafka import kafka_access
from runtime.topic import ensure_topic
from tests.chaos.kafka import Kafka, why_not
from tests.pipeline.conftest import Pipeline
from tests.servers import missing

pytestmark = pytest.mark.xdist_group("a Kafka of its own")

PASSWORD = "Only-4-tests"  # noqa: S105 - of a broker that exists only for this module


@dataclass(frozen=True)
class Secured:
    """A Kafka with four listeners, and certificates in `folder`."""

    plain: str
    sasl: str
    ssl: str
    lost: str
    """It advertises an address where nothing listens."""
    folder: object

    def user(self, mechanism="SCRAM-SHA-512", **values):
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.sasl,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": mechanism,
            "KAFKA_SASL_USERNAME": "iot",
            "KAFKA_SASL_PASSWORD": PASSWORD,
            "KAFKA_SSL_CA_LOCATION": f"{self.folder}/ca.pem",
        } | values

    def certificate(self, **values):
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.ssl,
            "KAFKA_SECURITY_PROTOCOL": "SSL",
            "KAFKA_SSL_CA_LOCATION": f"{self.folder}/ca.pem",
            "KAFKA_SSL_CERTIFICATE_LOCATION": f"{self.folder}/client.pem",
            "KAFKA_SSL_KEY_LOCATION": f"{self.folder}/client.key",
        } | values


def write_certificates(folder):
    """An authority, a server, a client with its key (`locked.key` with the password `secret`), and
    another authority, which has signed a foreign client.
    """
    ours, other = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other.pem")
    for name, authority in (("client", ours), ("foreign", other)):
        client = authority.issue_cert("edge@iot.example")
        client.private_key_pem.write_to_path(folder / f"{name}.key")
        client.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    key = load_pem_private_key((folder / "client.key").read_bytes(), None)
    locked = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (folder / "locked.key").write_bytes(locked)
    server = ours.issue_cert("127.0.0.1")
    key = load_pem_private_key(server.private_key_pem.bytes(), None)
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(plain + server.cert_chain_pems[0].bytes())


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    if why_not():
        pytest.skip(missing("Java or Maven"))
    folder = tmp_path_factory.mktemp("certificates")
    write_certificates(folder)
    with Kafka(tmp_path_factory.mktemp("kafka"), folder) as kafka:
        kafka.start()
        sasl, ssl, lost = kafka.secured
        yield Secured(kafka.address, sasl, ssl, lost, folder)


def settings(values):
    return load_settings(**{name.lower(): value for name, value in values.items()})


@pytest.mark.parametrize("way", ["user", "certificate"])
def test_edge_flow_replay_and_doctor_work_with(way, secured, tmp_path):
    values = getattr(secured, way)()
    with Children(tmp_path) as children:
        topic = f"test.{uuid4().hex[:12]}"
        pipeline = Pipeline(tmp_path, values["KAFKA_BOOTSTRAP_SERVERS"], children, topic)
        pipeline.values |= values
        rig = pipeline.register()
        pipeline.start_edge()
        flow = pipeline.start_flow()
        reading = {"sensor_uuid": rig.sensors["boiler"], "value": 95.0}
        for _ in range(3):
            answer = pipeline.post({"device_uuid": rig.uuid, "readings": [reading]})
            assert answer.status_code == 202
        pipeline.wait_stored(3)
        replay = pipeline.iot("replay", "--dry-run", "--json", "--dir", str(tmp_path / "runs"))
        assert replay.returncode == 0, replay.stderr
        assert json.loads(replay.stdout)["readings"] == 3
        doctor = json.loads(pipeline.iot("doctor", "--json").stdout)["findings"]
        states = {finding["about"]: finding["state"] for finding in doctor}
        wanted = ("broker", "topic", "timestamps", "retention", "rights", "dead letters")
        assert {name: states[name] for name in wanted} == dict.fromkeys(wanted, "OK"), doctor
        children.stop(flow)
        assert flow.process.returncode == 0
        pipeline.database.close()


def test_sasl_plain_and_an_encrypted_key_are_accepted(secured):
    for values in (
        secured.user("PLAIN"),
        secured.certificate(
            KAFKA_SSL_KEY_LOCATION=f"{secured.folder}/locked.key",
            KAFKA_SSL_KEY_PASSWORD="secret",  # noqa: S106 - as above
        ),
        secured.user(KAFKA_CLIENT_CONFIG="client.id=edge 7\nsocket.timeout.ms=30000"),
    ):
        assert ensure_topic(kafka_access(settings(values)), "test.accepted") == 12


def without(values, *names):
    return {name: value for name, value in values.items() if not name.startswith(names)}


WRONG = {
    "wrong password": (
        lambda s: s.user(KAFKA_SASL_PASSWORD="x"),  # noqa: S106
        "KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: {sasl} rejects the user 'iot': ",
    ),
    "wrong user": (
        lambda s: s.user("PLAIN", KAFKA_SASL_USERNAME="nobody"),
        "KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: {sasl} rejects the user 'nobody': ",
    ),
    "mechanism that the broker does not have": (
        lambda s: s.user("SCRAM-SHA-256"),
        "KAFKA_SASL_MECHANISM: {sasl} does not accept SCRAM-SHA-256; it accepts "
        "PLAIN,SCRAM-SHA-512",
    ),
    "wrong CA": (
        lambda s: s.user(KAFKA_SSL_CA_LOCATION=f"{s.folder}/other.pem"),
        "KAFKA_SSL_CA_LOCATION: the certificate of {sasl} is not trusted: ",
    ),
    "no CA": (
        lambda s: without(s.certificate(), "KAFKA_SSL_CA"),
        "KAFKA_SSL_CA_LOCATION: the certificate of {ssl} is not trusted: ",
    ),
    "another name than the certificate's": (
        lambda s: s.user(KAFKA_BOOTSTRAP_SERVERS=s.sasl.replace("127.0.0.1", "localhost")),
        "KAFKA_BOOTSTRAP_SERVERS: the certificate of localhost:",
    ),
    "no certificate": (
        lambda s: without(s.certificate(), "KAFKA_SSL_CERTIFICATE", "KAFKA_SSL_KEY"),
        "KAFKA_SSL_CERTIFICATE_LOCATION: {ssl} asks for a client certificate",
    ),
    "foreign certificate": (
        lambda s: s.certificate(
            KAFKA_SSL_CERTIFICATE_LOCATION=f"{s.folder}/foreign.pem",
            KAFKA_SSL_KEY_LOCATION=f"{s.folder}/foreign.key",
        ),
        "KAFKA_SSL_CERTIFICATE_LOCATION: {ssl} does not accept our client certificate",
    ),
    "plain text to TLS": (
        lambda s: {"KAFKA_BOOTSTRAP_SERVERS": s.ssl},
        "KAFKA_SECURITY_PROTOCOL: it is PLAINTEXT, and the listener at {ssl} speaks TLS",
    ),
    "user in plain text to TLS": (
        lambda s: without(s.user(KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT"), "KAFKA_SSL"),
        "KAFKA_SECURITY_PROTOCOL: it is SASL_PLAINTEXT, and the listener at {sasl} speaks TLS",
    ),
    "TLS to plain text": (
        lambda s: s.certificate(KAFKA_BOOTSTRAP_SERVERS=s.plain),
        "KAFKA_SECURITY_PROTOCOL: it is SSL, and the listener at {plain} speaks plain text",
    ),
    "user to a listener without users": (
        lambda s: s.certificate(
            **s.user("PLAIN", KAFKA_BOOTSTRAP_SERVERS=s.ssl, KAFKA_SECURITY_PROTOCOL="SASL_SSL")
        ),
        "KAFKA_SECURITY_PROTOCOL: it is SASL_SSL, and the listener at {ssl} does not use SASL",
    ),
    "no user to a listener with users": (
        lambda s: s.certificate(KAFKA_BOOTSTRAP_SERVERS=s.sasl),
        "KAFKA_SECURITY_PROTOCOL: it is SSL, and the listener at {sasl} asks for a user: set it "
        "to SASL_SSL, with KAFKA_SASL_MECHANISM (it accepts PLAIN, SCRAM-SHA-512)",
    ),
    "advertised address out of reach": (
        lambda s: {"KAFKA_BOOTSTRAP_SERVERS": s.lost},
        "KAFKA_BOOTSTRAP_SERVERS: {lost} answers and redirects us to 127.0.0.1:",
    ),
}


@pytest.fixture(scope="module")
def errors(secured):
    """The error of each entry of WRONG. All run at once, because each waits for a timeout."""

    def error(values):
        try:
            return ensure_topic(kafka_access(settings(values(secured))), "test.wrong")
        except IotError as error:
            return error

    with ThreadPoolExecutor(len(WRONG)) as pool:
        return dict(
            zip(WRONG, pool.map(error, [values for values, _ in WRONG.values()]), strict=True)
        )


@pytest.mark.parametrize("what", WRONG)
def test_each_wrong_setting_has_its_own_error(what, secured, errors):
    text = str(errors[what])
    assert text.startswith(WRONG[what][1].format(**vars(secured))), text
    assert "\n" not in text
    assert PASSWORD not in text
    assert isinstance(errors[what], SettingError | SetupError)  # waiting does not help


def test_every_program_reports_a_wrong_setting_on_start(secured, tmp_path):
    values = {
        "KAFKA_TOPIC": f"test.{uuid4().hex[:12]}",
        "IOT_SQLITE_PATH": str(tmp_path / "iot.db"),
    } | secured.user(KAFKA_SASL_PASSWORD="not-this-one")  # noqa: S106
    environment = child_environment(values)
    subprocess.run([sys.executable, "-m", "sql"], env=environment, check=True, capture_output=True)
    programs = {
        "edge": ("ingest_edge", "--port", "18001"),
        "flow": ("bytewax.run", "dataflows.readings:flow()"),
        "run": ("ops.cli", "run", "--recovery", str(tmp_path / "recovery")),
        "replay": ("ops.cli", "replay", "--dry-run", "--dir", str(tmp_path / "replay")),
        "doctor": ("ops.cli", "doctor", "--recovery", str(tmp_path / "recovery")),
    }
    running = {
        name: subprocess.Popen(
            [sys.executable, "-m", *command], cwd=tmp_path, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for name, command in programs.items()
    }  # fmt: skip
    said = {name: process.communicate(timeout=90)[0] for name, process in running.items()}
    for name, text in said.items():
        lines = [line for line in text.splitlines() if "KAFKA_SASL_PASSWORD: 127.0.0.1:" in line]
        assert len(lines) == 1, (name, text)
        assert "rejects the user 'iot'" in lines[0]
        assert "Traceback" not in text
        assert "not-this-one" not in text
    assert running["flow"].returncode == 78
    assert all(process.returncode for process in running.values())
