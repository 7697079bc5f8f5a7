"""Certificates: how a TLS connection comes to speak for a node id.

    federation CA (P-256, its key known to every member)
      └─ leaf (P-256)   CN  = node id in hexadecimal
                        SAN = host name derived from the node id
                        BINDING, an extension = [version, federation, node id, signature]:
                        the node's Ed25519 signature over federation, node id and the leaf's public key

The authority keeps strangers off the socket, nothing more: any member can issue any leaf. Who the peer is
follows from the extension alone, which only the holder of the node's Ed25519 key can sign and which is
worthless with another TLS key. In the other direction a client pins the exact leaf that the signed node
record carries, because TLS stops at names and any member can issue a leaf with any name.

Certificates never expire. A date would guard nothing, since every member can issue a leaf with later ones,
and would lock out nodes with wrong clocks; whoever must go is banned, and the view is asked at every call.
Issuing is a pure function (RFC 6979 signatures, serial numbers from the key), so that no certificate needs
to be kept: a node that restarts presents the very leaf that its peers have pinned.

Always true here: `node_of` returns a node id only if that node signed this leaf's key for this federation.
Whether the node is a member is the view's business.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from crdtmerge import canon
from crdtmerge.digest import DIGEST_BYTES, Digest
from crdtmerge.errors import LimitError, MalformedError, PolicyError, SignatureError
from crdtmerge.keys import KEY_BYTES, SIGNATURE_BYTES, NodeId, SigningKey, verify
from crdtmerge.node import identity

VERSION: Final = 1
CONTEXT: Final = "tls certificate"
BINDING: Final = x509.ObjectIdentifier("2.25.335532374319429301536396847589491487461")
"""An object identifier from a UUID, which needs no registration (ITU-T X.667)."""

LEAF_BYTES_MAX: Final = 2048

_SINCE: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNTIL: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""What RFC 5280, 4.1.2.5, prescribes for certificates without an end."""

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

    def issue(self, key: SigningKey, tls: ec.EllipticCurvePublicKey) -> bytes:
        """Return the DER of a leaf that binds the TLS key ``tls`` to the node ``key.id``."""
        binding = canon.encode(
            [VERSION, self.federation, key.id, key.sign(CONTEXT, _statement(self.federation, key.id, tls))]
        )
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, key.id.hex())])
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        leaf = (
            _draft(name, self._name, tls)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host_of(key.id))]), critical=False)
            .add_extension(x509.UnrecognizedExtension(BINDING, binding), critical=False)
            .sign(self._key, SHA256(), ecdsa_deterministic=True)
        )
        return leaf.public_bytes(Encoding.DER)


def node_of(leaf: bytes, federation: Digest) -> NodeId:
    """Return the node that the leaf ``leaf`` (DER) speaks for.

    Raises:
        LimitError: if the leaf is larger than LEAF_BYTES_MAX.
        MalformedError: if it is no certificate, or not of the form above.
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
    version, named, node, signature = canon.array(canon.decode(binding.value, bytes_max=LEAF_BYTES_MAX), 4)
    canon.integer(version, VERSION, VERSION)
    if canon.octets(named, DIGEST_BYTES) != federation:
        raise PolicyError(f"a certificate for another federation, ours is {federation.hex()[:12]}…")
    signer = NodeId(canon.octets(node, KEY_BYTES))
    try:
        verify(signer, CONTEXT, _statement(federation, signer, tls), canon.octets(signature, SIGNATURE_BYTES))
    except SignatureError as error:
        raise SignatureError(f"a certificate that {signer.hex()[:12]}… did not sign") from error
    if names != [signer.hex()] or list(hosts) != [x509.DNSName(host_of(signer))]:
        raise MalformedError(f"a certificate of {signer.hex()[:12]}… under another name")
    return signer


def host_of(node: NodeId) -> str:
    """Return the host name that stands in the leaf of ``node``; it is in no directory."""
    return base64.b32encode(node).decode().rstrip("=").lower() + ".crdtmerge.internal"


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


def _statement(federation: Digest, node: NodeId, tls: ec.EllipticCurvePublicKey) -> bytes:
    public = tls.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return canon.encode([VERSION, federation, node, public])


def _draft(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(1 | key.public_numbers().x >> 97)  # at most 159 bits: RFC 5280, 4.1.2.2
        .not_valid_before(_SINCE)
        .not_valid_after(_UNTIL)
    )
