"""What a node shows on a connection, and what it demands to see.

A server demands a leaf of the federation's authority, which keeps strangers out of the handshake. A client
demands the exact leaf that it expects: the leaf itself is its only trusted root, and its host name tells the
server which of its leaves is meant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import grpc

from crdtmerge import ambient
from crdtmerge.digest import Digest
from crdtmerge.keys import SigningKey
from crdtmerge.node import certificate, identity, wardrobe
from crdtmerge.node.certificate import Authority
from crdtmerge.node.wardrobe import Dress
from crdtmerge.op import Operation


@dataclass(frozen=True, slots=True)
class Credentials:
    """One node's side of every TLS connection."""

    federation: Digest
    leaf: bytes
    """This node's certificate, DER: what its record tells others to pin."""
    tls_key_pem: bytes = field(repr=False)
    ca_pem: bytes = field(repr=False)
    old: tuple[bytes, bytes] | None = field(default=None, repr=False)
    """The key (PEM) and leaf (DER) before these, for those who still expect them."""

    @staticmethod
    def make(
        key: SigningKey, *, tls_secret: bytes, ca_secret: bytes, federation: Digest, issued_ms: int
    ) -> Credentials:
        """Return the credentials that follow from the secrets, issued at ``issued_ms``."""
        tls = identity.p256(tls_secret).public_key()
        leaf = Authority(federation, ca_secret).issue(key, tls, issued_ms=issued_ms)
        return Credentials._of(federation, ca_secret, Dress(leaf, tls_secret), None)

    @staticmethod
    def load(home: Path, genesis: Operation, *, now_ms: int | None = None) -> Credentials:
        """Return the credentials of ``home``, making its TLS key and leaf if there are none.

        The federation's CA secret is drawn by the node that signed the genesis; all others get it by ticket.

        Raises:
            UsageError: if the home lacks an identity, or did not join yet.
        """
        now_ms = ambient.now_ms() if now_ms is None else now_ms
        key = identity.signing_key(home)
        founded = genesis.author == key.id
        ca_secret = identity.create_ca_secret(home) if founded else identity.ca_secret(home)
        new = wardrobe.current(home, key, ca_secret, genesis.id, now_ms=now_ms)
        return Credentials._of(genesis.id, ca_secret, new, wardrobe.old(home, key, genesis.id, now_ms=now_ms))

    @staticmethod
    def _of(federation: Digest, ca_secret: bytes, new: Dress, old: Dress | None) -> Credentials:
        before = None if old is None else (identity.pem(identity.p256(old.secret)), old.leaf)
        return Credentials(
            federation,
            new.leaf,
            identity.pem(identity.p256(new.secret)),
            Authority(federation, ca_secret).pem,
            before,
        )

    def presented(self) -> grpc.ServerCertificateConfiguration:
        """Return what a server socket presents now, the newest leaf first."""
        pairs = [(self.tls_key_pem, self.leaf), *([] if self.old is None else [self.old])]
        return grpc.ssl_server_certificate_configuration(
            [(key, certificate.leaf_pem(leaf)) for key, leaf in pairs], root_certificates=self.ca_pem
        )

    def client(self, leaf: bytes) -> grpc.ChannelCredentials:
        """Return what a connection to the holder of ``leaf``, and to nobody else, needs."""
        return grpc.ssl_channel_credentials(
            root_certificates=certificate.leaf_pem(leaf),
            private_key=self.tls_key_pem,
            certificate_chain=certificate.leaf_pem(self.leaf),
        )
