"""TLS: what our HTTP services present, and what our HTTP clients accept."""

import ssl
from pathlib import Path

from contract.errors import SettingError
from contract.settings import Settings


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 or later with `HTTP_TLS_CERTIFICATE` and `HTTP_TLS_KEY`. None if they are not set.

    With `HTTP_TLS_CLIENT_CA`, only clients with a certificate of that authority are accepted.

    Raises:
        SettingError: a file is missing, unreadable or not PEM, or the key belongs to another
            certificate. The text begins with the setting.
    """
    certificate, key = settings.http_tls_certificate, settings.http_tls_key
    authority = settings.http_tls_client_ca
    if certificate is None:
        for name, value in (("HTTP_TLS_KEY", key), ("HTTP_TLS_CLIENT_CA", authority)):
            if value is not None:
                raise SettingError(f"HTTP_TLS_CERTIFICATE is not set, and {name} is: set both")
        return None
    if key is None:
        raise SettingError("HTTP_TLS_KEY is not set, and HTTP_TLS_CERTIFICATE is: set both")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _check_readable("HTTP_TLS_CERTIFICATE", certificate)
    _check_readable("HTTP_TLS_KEY", key)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _EncryptedError as error:
        raise SettingError(
            f"HTTP_TLS_KEY: the key in {key} is encrypted: decrypt it with `openssl pkey`"
        ) from error
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingError(
                f"HTTP_TLS_KEY: the key in {key} does not belong to the certificate in "
                f"{certificate} (HTTP_TLS_CERTIFICATE)"
            ) from error
        raise SettingError(
            f"HTTP_TLS_CERTIFICATE, HTTP_TLS_KEY: {certificate} and {key} are not a certificate "
            f"and its key in PEM format ({error.reason or error})"
        ) from error
    if authority is not None:
        _trust(context, "HTTP_TLS_CLIENT_CA", authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(settings: Settings) -> ssl.SSLContext:
    """The authorities that our HTTP clients trust: `SSL_CERT_FILE`, else the system's.

    Raises:
        SettingError: the file is missing, unreadable or not PEM.
    """
    if settings.ssl_cert_file is None:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _trust(context, "SSL_CERT_FILE", settings.ssl_cert_file)
    return context


def check_trusted(url: str, error: Exception) -> None:
    """Raise `SettingError` if an HTTP client's error is about the server's certificate.

    Raises:
        SettingError: no trusted authority signed it, or it is for another host name.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        raise SettingError(
            f"SSL_CERT_FILE: the certificate of {url} is not trusted ({cause.verify_message}): "
            "give the file of its authority, in PEM format"
        ) from error


def _trust(context: ssl.SSLContext, name: str, authority: Path) -> None:
    _check_readable(name, authority)
    try:
        context.load_verify_locations(authority)
    except ssl.SSLError as error:
        raise SettingError(f"{name}: {authority} has no certificate in PEM format") from error


def _check_readable(name: str, file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise SettingError(f"{name}: {file} cannot be read: {error.strerror}") from error


class _EncryptedError(Exception):
    pass


def _no_password() -> str:
    raise _EncryptedError
