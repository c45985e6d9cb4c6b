"""Reach the brokers, and explain why none answers.

When a client gets no answer, `why_no_answer` finds the cause and returns it as an error in one line
that names the setting to check. An error that waiting cannot fix is a `SettingError` or a
`SetupError`.
"""

import re

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata

from contract.errors import IotError, SettingError, SetupError, UnavailableError
from runtime.kafka import KafkaAccess
from runtime.listener import Listener, connect_error, look_at, split_address

ANSWER_S = 6.0
"""How long a broker may take to answer at start."""
_CONNECT_S = 2.0
_LAST_EVENTS_S = 0.2
_KEPT = 100
_CERTIFICATE_ALERT = re.compile(r"alert .*(certificate|unknown ca)")
_PLAIN = ("plain text without TLS", "PLAINTEXT or SASL_PLAINTEXT")


class Events:
    """The errors that a client library reports in addition to its answers, oldest first, each once.

    Only the newest 100 are kept.
    """

    def __init__(self) -> None:
        self._errors: dict[tuple[int, str], None] = {}

    def __call__(self, error: KafkaError) -> None:
        """Store an error. This is the client's `error_cb`."""
        text = re.sub(r" \(after \d+ms in state .*\)$", "", error.str())
        self._errors.pop((error.code(), text), None)
        self._errors[error.code(), text] = None
        if len(self._errors) > _KEPT:
            del self._errors[next(iter(self._errors))]

    def newest(self) -> str:
        """The text of the newest error. Empty if there is none."""
        return next(reversed(self._errors), (0, ""))[1]

    def of(self, *codes: int) -> list[str]:
        """The texts of the errors with one of these codes."""
        return [text for code, text in self._errors if code in codes]


def cluster_metadata(access: KafkaAccess, topic: str | None = None) -> ClusterMetadata:
    """Fetch the brokers' metadata about themselves and `topic`, or all topics.

    Raises:
        SettingError, SetupError: no broker accepts us, and waiting does not help.
        UnavailableError: no broker answered within 6 s.
    """
    events = Events()
    admin = AdminClient(access.config() | {"error_cb": events})
    try:
        if topic is None:
            return admin.list_topics(timeout=ANSWER_S)
        return admin.list_topics(topic, timeout=ANSWER_S)
    except KafkaException as error:
        admin.poll(_LAST_EVENTS_S)
        raise explain(access, events) from error


def check_reachable(access: KafkaAccess, cluster: ClusterMetadata, topic: str) -> None:
    """Check that one of the leaders of `topic` can be reached at the address that it advertises.

    If the topic does not exist, any broker will do. One is enough: others may be temporarily down.

    Raises:
        SetupError: none can be reached, and the brokers advertise addresses other than ours.
        UnavailableError: none can be reached, although one answered a moment ago.
    """
    known = cluster.topics.get(topic)
    leaders = {partition.leader for partition in known.partitions.values()} if known else set()
    failed: dict[str, str] = {}
    for number in sorted(leaders & cluster.brokers.keys() or cluster.brokers):
        broker = cluster.brokers[number]
        why = connect_error(split_address(f"{broker.host}:{broker.port}"), _CONNECT_S)
        if why is None:
            return
        failed[f"{broker.host}:{broker.port}"] = why
    ours = {split_address(address) for address in access.brokers.split(",")}
    elsewhere = [address for address in failed if split_address(address) not in ours]
    if elsewhere:
        raise _sent_elsewhere(access, elsewhere[0], failed[elsewhere[0]])
    if failed:
        raise _away(access, next(iter(failed.values())))


def why_no_answer(access: KafkaAccess, topic: str) -> IotError:
    """Find out why a client got no answer about `topic`, with a new client."""
    try:
        check_reachable(access, cluster_metadata(access, topic), topic)
    except IotError as error:
        return error
    return _away(access, "no answer in time")


def explain(access: KafkaAccess, events: Events) -> IotError:
    """Find out why no broker answered, from the client's errors and a look at the address."""
    if refused := events.of(KafkaError._AUTHENTICATION):
        return _not_authenticated(access, refused[-1])
    transport = events.of(KafkaError._SSL, KafkaError._TRANSPORT)
    if [text for text in transport if "certificate verify failed" in text]:
        return _not_trusted(access)
    if alerts := [text for text in transport if _CERTIFICATE_ALERT.search(text)]:
        return _alerted(access, alerts[-1])
    for address in access.brokers.split(","):
        listener = look_at(split_address(address), _CONNECT_S, access.ca)
        if error := _mismatch(access, address, listener):
            return error
    return _not_reached(access, transport, events.of(KafkaError._RESOLVE))


def _not_reached(access: KafkaAccess, transport: list[str], hosts: list[str]) -> IotError:
    if elsewhere := _unreachable(access, transport + hosts):
        return elsewhere
    if hosts:
        return UnavailableError(
            f"KAFKA_BOOTSTRAP_SERVERS: no such host: {_reason(hosts[-1])}; correct the address"
        )
    return _away(access, _reason(transport[-1]) if transport else "no answer in time")


def _unreachable(access: KafkaAccess, texts: list[str]) -> SetupError | None:
    """The error if one of our brokers names another that cannot be reached. Else None."""
    ours = [split_address(address) for address in access.brokers.split(",")]
    for text in reversed(texts):
        named = re.match(r"(?:\S+://)?(\S+)/\d+: ", text)
        if named is None or split_address(named[1]) in ours:
            continue
        reached = any(connect_error(address, _CONNECT_S) is None for address in ours)
        why = connect_error(split_address(named[1]), _CONNECT_S)
        if reached and why is not None:
            return _sent_elsewhere(access, named[1], why)
    return None


def _sent_elsewhere(access: KafkaAccess, address: str, why: str) -> SetupError:
    return SetupError(
        f"KAFKA_BOOTSTRAP_SERVERS: {access.brokers} answers and redirects us to {address}, which "
        f"cannot be reached from here: {why}; correct the broker's advertised.listeners, or give "
        "the address of a listener for this network"
    )


def _away(access: KafkaAccess, why: str) -> UnavailableError:
    return UnavailableError(
        f"KAFKA_BOOTSTRAP_SERVERS: no Kafka broker answers at {access.brokers}: {why}; "
        "start it, or correct the address"
    )


def _reason(text: str) -> str:
    """The client's text without its own name for the broker.

    >>> _reason("sasl_ssl://10.0.0.1:9092/bootstrap: Connect failed: Connection refused")
    'Connect failed: Connection refused'
    """
    return re.sub(r"^\S+/(bootstrap|\d+): ", "", text)


def _not_authenticated(access: KafkaAccess, text: str) -> SettingError:
    offered = re.search(r"supported mechanisms: ?(.*)$", text)
    if offered and not offered[1].strip():
        return _no_sasl(access)
    if offered:
        return SettingError(
            f"KAFKA_SASL_MECHANISM: {access.brokers} does not accept {access.mechanism}; it "
            f"accepts {offered[1].strip()}"
        )
    why = _reason(text).removeprefix("SASL authentication error: ")
    return SettingError(
        f"KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: {access.brokers} rejects the user "
        f"{access.user!r}: {why}"
    )


def _no_sasl(access: KafkaAccess) -> SettingError:
    other = access.protocol.removeprefix("SASL_")
    return SettingError(
        f"KAFKA_SECURITY_PROTOCOL: it is {access.protocol}, and the listener at {access.brokers} "
        f"does not use SASL: set it to {other}, or give the address of the SASL listener"
    )


def _not_trusted(access: KafkaAccess) -> SettingError:
    reasons = (
        look_at(split_address(address), _CONNECT_S, access.ca).distrust
        for address in access.brokers.split(",")
    )
    why = next(filter(None, reasons), "certificate verify failed")
    remedy = (
        "use a host name that is in the certificate"
        if "mismatch" in why
        else "give the file with the certificate of the authority that signed it"
    )
    name = "KAFKA_BOOTSTRAP_SERVERS" if "mismatch" in why else "KAFKA_SSL_CA_LOCATION"
    return SettingError(
        f"{name}: the certificate of {access.brokers} is not trusted: {why}; {remedy}"
    )


def _alerted(access: KafkaAccess, text: str) -> SettingError:
    why = text.rpartition("SSL routines::")[2]
    given = access.certificate
    what = "does not accept our client certificate" if given else "asks for a client certificate"
    remedy = (
        f"use one that its authority has signed, instead of {given}"
        if given
        else "set it and KAFKA_SSL_KEY_LOCATION"
    )
    return SettingError(
        f"KAFKA_SSL_CERTIFICATE_LOCATION: {access.brokers} {what} ({why}); {remedy}"
    )


def _mismatch(access: KafkaAccess, address: str, listener: Listener) -> SettingError | None:
    """The error if KAFKA_SECURITY_PROTOCOL does not match the listener. Else None."""
    ours = access.protocol
    if listener.tls is not None and listener.tls != ours.endswith("SSL"):
        kind, others = ("TLS", "SSL or SASL_SSL") if listener.tls else _PLAIN
        return SettingError(
            f"KAFKA_SECURITY_PROTOCOL: it is {ours}, and the listener at {address} speaks {kind}: "
            f"set it to {others}"
        )
    if listener.mechanisms and not ours.startswith("SASL"):
        return SettingError(
            f"KAFKA_SECURITY_PROTOCOL: it is {ours}, and the listener at {address} asks for a "
            f"user: set it to SASL_{ours}, with KAFKA_SASL_MECHANISM (it accepts "
            f"{', '.join(listener.mechanisms)}), KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
        )
    return None
