"""Certificates: how a TLS connection comes to speak for a node id.

    federation CA (P-256, its key known to every member)
      └─ leaf (P-256)   CN  = node id in hexadecimal
                        SAN = host name derived from the node id and the leaf's public key
                        BINDING, an extension = [version, federation, node id, issued, expires, signature]:
                        the node's Ed25519 signature over federation, node id, the leaf's public key and times

The authority keeps strangers off the socket, nothing more: any member can issue any leaf. Who the peer is
follows from the extension alone, which only the holder of the node's Ed25519 key can sign and which is
worthless with another TLS key. In the other direction a client pins the exact leaf that the signed node
record carries, because TLS stops at names and any member can issue a leaf with any name.

A leaf lives LIFE_MS. The dates that TLS looks at have to be those that the node signed, so no other member
can prolong it. A node makes a new key when half of that is over, or when its people say so; the old leaf is
presented beside the new one for OVERLAP_MS, to those who still ask for it by its host name. Who *calls* has
to show a leaf issued no earlier than the one in its record: a key that was stolen and replaced opens nothing.
Issuing is a pure function (RFC 6979 signatures, serial numbers from the key).

Always true here: `read` returns a leaf only if the node that it names signed its key for this federation.
Whether the node is a member is the view's business.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from crdtmerge import canon
from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest
from crdtmerge.errors import LimitError, MalformedError, PolicyError, SignatureError
from crdtmerge.keys import KEY_BYTES, SIGNATURE_BYTES, NodeId, SigningKey, verify
from crdtmerge.node import identity

VERSION: Final = 1
CONTEXT: Final = "tls certificate"
BINDING: Final = x509.ObjectIdentifier("2.25.335532374319429301536396847589491487461")
"""An object identifier from a UUID, which needs no registration (ITU-T X.667)."""

LEAF_BYTES_MAX: Final = 2048

LIFE_MS: Final = 90 * 24 * 3600 * 1000
"""Of a leaf: how long a thief of its key can use it if nobody notices; no clock is wrong by a month."""

OVERLAP_MS: Final = 30 * 24 * 3600 * 1000
"""How long an old leaf is presented: a record that pins it is worth nothing after this time."""

_SINCE: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""From when on a leaf is valid: clocks that are behind lock nobody out."""

_UNTIL: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""What RFC 5280, 4.1.2.5, prescribes for certificates without an end, as the authority's."""

_SECOND_MS: Final = 1000
_TIME_MAX: Final = 253_402_300_799  # of _UNTIL, in seconds

_NOT_A_LEAF: Final = (
    ValueError,
    TypeError,
    Warning,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What parsing hostile certificates raises (warnings: where the interpreter was told to)."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a leaf says, verified.

    Attributes:
        node: whom it speaks for.
        issued_ms, expires_ms: as the node signed them; whole seconds.
        host: the name in it, which selects it among the leaves that a server presents.
        key: the P-256 public key, SubjectPublicKeyInfo in DER.
    """

    node: NodeId
    issued_ms: int
    expires_ms: int
    host: str
    key: bytes


class Authority:
    """The certificate authority of one federation, as every member holds it."""

    def __init__(self, federation: Digest, secret: bytes) -> None:
        self.federation = federation
        self._key = identity.p256(secret)
        self._name = x509.Name(
            [
                x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "crdtmerge federation"),
                x509.NameAttribute(x509.NameOID.COMMON_NAME, federation.hex()),
            ]
        )
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        root = (
            _draft(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, SHA256(), ecdsa_deterministic=True)
        )
        self.pem: Final = root.public_bytes(Encoding.PEM)
        """The root certificate."""

    def issue(self, key: SigningKey, tls: ec.EllipticCurvePublicKey, *, issued_ms: int) -> bytes:
        """Return the DER of a leaf that binds the TLS key ``tls`` to the node ``key.id`` for LIFE_MS."""
        issued = issued_ms // _SECOND_MS
        expires = issued + LIFE_MS // _SECOND_MS
        signature = key.sign(CONTEXT, _statement(self.federation, key.id, tls, issued, expires))
        binding = canon.encode([VERSION, self.federation, key.id, issued, expires, signature])
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, key.id.hex())])
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        leaf = (
            _draft(name, self._name, tls, until=datetime.fromtimestamp(expires, UTC))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host_of(key.id, tls))]), critical=False)
            .add_extension(x509.UnrecognizedExtension(BINDING, binding), critical=False)
            .sign(self._key, SHA256(), ecdsa_deterministic=True)
        )
        return leaf.public_bytes(Encoding.DER)


def node_of(leaf: bytes, federation: Digest) -> NodeId:
    """Return the node that the leaf ``leaf`` (DER) speaks for; raises as `read`."""
    return read(leaf, federation).node


def read(leaf: bytes, federation: Digest) -> Leaf:
    """Return what the leaf ``leaf`` (DER) says, if its node signed it; whether it has expired is not asked.

    Raises:
        LimitError: if the leaf is larger than LEAF_BYTES_MAX.
        MalformedError: if it is no certificate, not of the form above, or its dates are not the node's.
        PolicyError: if it was made for another federation.
        SignatureError: if the node that it names did not sign its key.
    """
    if len(leaf) > LEAF_BYTES_MAX:
        raise LimitError(f"a certificate of {len(leaf)} bytes, at most {LEAF_BYTES_MAX} are accepted")
    try:
        certificate = x509.load_der_x509_certificate(leaf)
        tls = certificate.public_key()
        names = [attribute.value for attribute in certificate.subject]
        extensions = certificate.extensions
        hosts = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        binding = extensions.get_extension_for_oid(BINDING).value
    except _NOT_A_LEAF as error:
        raise MalformedError(f"not a node's certificate: {error}") from error
    if not isinstance(tls, ec.EllipticCurvePublicKey) or not isinstance(binding, x509.UnrecognizedExtension):
        raise MalformedError("not a node's certificate: its key is on no elliptic curve")
    version, named, node, issued, expires, signature = canon.array(
        canon.decode(binding.value, bytes_max=LEAF_BYTES_MAX), 6
    )
    canon.integer(version, VERSION, VERSION)
    if canon.octets(named, DIGEST_BYTES) != federation:
        raise PolicyError(f"a certificate for another federation, ours is {federation.hex()[:12]}…")
    signer = NodeId(canon.octets(node, KEY_BYTES))
    since, until = canon.integer(issued, 0, _TIME_MAX), canon.integer(expires, 0, _TIME_MAX)
    statement = _statement(federation, signer, tls, since, until)
    try:
        verify(signer, CONTEXT, statement, canon.octets(signature, SIGNATURE_BYTES))
    except SignatureError as error:
        raise SignatureError(f"a certificate that {signer.hex()[:12]}… did not sign") from error
    host = host_of(signer, tls)
    if names != [signer.hex()] or list(hosts) != [x509.DNSName(host)]:
        raise MalformedError(f"a certificate of {signer.hex()[:12]}… under another name")
    if certificate.not_valid_after_utc != datetime.fromtimestamp(until, UTC):
        raise MalformedError(f"a certificate of {signer.hex()[:12]}… that ends on another day than it signed")
    return Leaf(signer, since * _SECOND_MS, until * _SECOND_MS, host, _public(tls))


def host_of(node: NodeId, tls: ec.EllipticCurvePublicKey) -> str:
    """Return the host name in a leaf: the TLS key's, then the node's; it is in no directory."""
    labels = digest(Domain.TLS_KEY, _public(tls))[:20], node
    names = [base64.b32encode(label).decode().rstrip("=").lower() for label in labels]
    return ".".join([*names, "crdtmerge.internal"])


def leaf_pem(leaf: bytes) -> bytes:
    """Return the PEM form of a leaf in DER."""
    body = base64.encodebytes(leaf)
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"


def leaf_der(pem: bytes) -> bytes:
    """Return the DER of the one certificate in ``pem``, as the TLS library hands it out.

    Raises:
        MalformedError: if there is none.
    """
    try:
        return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    except _NOT_A_LEAF as error:
        raise MalformedError(f"not a certificate: {error}") from error


def _public(tls: ec.EllipticCurvePublicKey) -> bytes:
    return tls.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _statement(
    federation: Digest, node: NodeId, tls: ec.EllipticCurvePublicKey, issued: int, expires: int
) -> bytes:
    return canon.encode([VERSION, federation, node, _public(tls), issued, expires])


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, until: datetime = _UNTIL
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(1 | key.public_numbers().x >> 97)  # at most 159 bits: RFC 5280, 4.1.2.2
        .not_valid_before(_SINCE)
        .not_valid_after(until)
    )
