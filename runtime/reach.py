"""Reaching the brokers, and why none answers.

When a client gets no answer, `why_no_answer` finds the cause and returns it as an error in one line
that names the setting to look at. What waiting cannot cure is a `SettingError` or a `SetupError`.
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
    """The errors that a client library reports beside its answers, oldest first, each once.

    Only the newest 100 are kept.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], None] = {}

    def __call__(self, error: KafkaError) -> None:
        """Take note of an error; this is the client's `error_cb`."""
        text = re.sub(r" \(after \d+ms in state .*\)$", "", error.str())
        self._found.pop((error.code(), text), None)
        self._found[error.code(), text] = None
        if len(self._found) > _KEPT:
            del self._found[next(iter(self._found))]

    def newest(self) -> str:
        """The text of the newest error; empty where there is none."""
        return next(reversed(self._found), (0, ""))[1]

    def of(self, *codes: int) -> list[str]:
        """The texts of the errors with one of these codes."""
        return [text for code, text in self._found if code in codes]


def cluster_metadata(access: KafkaAccess, topic: str | None = None) -> ClusterMetadata:
    """What the brokers know of themselves and of `topic`, or of all topics.

    Raises:
        SettingError, SetupError: no broker lets us in, and waiting does not help.
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
    """Check that one of the brokers that lead a partition of `topic` can be reached at the
    address that it advertises; any broker while there is no such topic. One is enough: others may
    be away for a moment.

    Raises:
        SetupError: none can be reached, and the brokers advertise other addresses than ours.
        UnavailableError: none can be reached where we reached them a moment ago.
    """
    known = cluster.topics.get(topic)
    leaders = {one.leader for one in known.partitions.values()} if known else set()
    failed: dict[str, str] = {}
    for number in sorted(leaders & cluster.brokers.keys() or cluster.brokers):
        broker = cluster.brokers[number]
        why = connect_error(split_address(f"{broker.host}:{broker.port}"), _CONNECT_S)
        if why is None:
            return
        failed[f"{broker.host}:{broker.port}"] = why
    ours = {split_address(one) for one in access.brokers.split(",")}
    elsewhere = [one for one in failed if split_address(one) not in ours]
    if elsewhere:
        raise _sent_elsewhere(access, elsewhere[0], failed[elsewhere[0]])
    if failed:
        raise _away(access, next(iter(failed.values())))


def why_no_answer(access: KafkaAccess, topic: str) -> IotError:
    """Why a client that asked about `topic` got no answer, found with a client of our own."""
    try:
        check_reachable(access, cluster_metadata(access, topic), topic)
    except IotError as error:
        return error
    return _away(access, "no answer in time")


def explain(access: KafkaAccess, events: Events) -> IotError:
    """Why no broker answered, by what the client reported and what its address turns out to be."""
    if refused := events.of(KafkaError._AUTHENTICATION):
        return _not_authenticated(access, refused[-1])
    transport = events.of(KafkaError._SSL, KafkaError._TRANSPORT)
    if [text for text in transport if "certificate verify failed" in text]:
        return _not_trusted(access)
    if alerts := [text for text in transport if _CERTIFICATE_ALERT.search(text)]:
        return _alerted(access, alerts[-1])
    for address in access.brokers.split(","):
        listener = look_at(split_address(address), _CONNECT_S, access.ca)
        if found := _mismatch(access, address, listener):
            return found
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
    """Where a broker of ours answered and named another, which the client could not reach."""
    ours = [split_address(one) for one in access.brokers.split(",")]
    for text in reversed(texts):
        named = re.match(r"(?:\S+://)?(\S+)/\d+: ", text)
        if named is None or split_address(named[1]) in ours:
            continue
        reached = any(connect_error(one, _CONNECT_S) is None for one in ours)
        why = connect_error(split_address(named[1]), _CONNECT_S)
        if reached and why is not None:
            return _sent_elsewhere(access, named[1], why)
    return None


def _sent_elsewhere(access: KafkaAccess, address: str, why: str) -> SetupError:
    return SetupError(
        f"KAFKA_BOOTSTRAP_SERVERS: {access.brokers} answers and sends us to {address}, which "
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
        f"KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: {access.brokers} does not let the user "
        f"{access.user!r} in: {why}"
    )


def _no_sasl(access: KafkaAccess) -> SettingError:
    other = access.protocol.removeprefix("SASL_")
    return SettingError(
        f"KAFKA_SECURITY_PROTOCOL: it is {access.protocol}, and the listener at {access.brokers} "
        f"takes no user: set it to {other}, or give the address of the SASL listener"
    )


def _not_trusted(access: KafkaAccess) -> SettingError:
    found = (
        look_at(split_address(one), _CONNECT_S, access.ca).distrust
        for one in access.brokers.split(",")
    )
    why = next(filter(None, found), "certificate verify failed")
    remedy = (
        "give the address by a name that is in the certificate"
        if "mismatch" in why
        else "name the file with the certificate of the authority that signed it"
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
        f"use one that its authority has signed, not {given}"
        if given
        else "set it and KAFKA_SSL_KEY_LOCATION"
    )
    return SettingError(
        f"KAFKA_SSL_CERTIFICATE_LOCATION: {access.brokers} {what} ({why}); {remedy}"
    )


def _mismatch(access: KafkaAccess, address: str, listener: Listener) -> SettingError | None:
    """Where the listener is of another kind than KAFKA_SECURITY_PROTOCOL says."""
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
