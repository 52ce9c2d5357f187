"""Files with metadata, by the libraries that write them elsewhere: c2pa-python, Pillow, PyAV."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "MP4": "video/mp4"}
WEB_UI = (
    "portrait of a woman, 85mm\nNegative prompt: blurry, hands\nSteps: 20, Sampler: Euler a, "
    "CFG scale: 7, Seed: 1, Size: 512x512, Model hash: 31e35c80fc, Model: sd_xl_base_1.0, "
    "Version: v1.9.4"
)


def picture(format: str = "JPEG", side: int = 32, **options: Any) -> bytes:
    """A small picture as a file, with what Pillow's `save` is told to write into it."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(stream, format, **options)
    return stream.getvalue()


def exif(**tags: Any) -> bytes:
    """EXIF with tags by Pillow's names."""
    from PIL import ExifTags

    made = Image.Exif()
    inside = made.get_ifd(ExifTags.IFD.Exif)
    for name, value in tags.items():
        tag = ExifTags.Base[name]
        (inside if tag >= 0x8827 and tag < 0x9C00 else made)[tag] = value
    return made.tobytes()


def xmp(body: str = "", attributes: str = "") -> bytes:
    """An XMP packet with properties as elements or attributes; its namespaces are declared."""
    return f"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/" {attributes}>{body}</rdf:Description>
</rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, late: Sequence[bytes] = ()) -> bytes:
    """A PNG file with more chunks, before its pixels or behind them."""
    plain = picture("PNG")
    head, end = plain.index(b"IDAT") - 4, plain.index(b"IEND") - 4
    return plain[:head] + b"".join(chunks) + plain[head:end] + b"".join(late) + plain[end:]


def clip(file: Path, seconds: float = 0.4, **metadata: str) -> Path:
    """A short clip of noise by x264, with tags."""
    options = {"movflags": "use_metadata_tags"} if file.suffix in (".mp4", ".mov") else {}
    with av.open(str(file), "w", container_options=options) as out:
        out.metadata.update(metadata)
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(int(25 * seconds)):
            noise = rng.integers(0, 256, (48, 64, 3), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        out.mux(stream.encode())
    return file


@cache
def _credentials() -> tuple[bytes, bytes, bytes]:
    """Signer and authority as certificates, the signer's key, the authority alone; all PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.now(timezone.utc)

    def name(common: str) -> x509.Name:
        both = ((NameOID.ORGANIZATION_NAME, "Tests"), (NameOID.COMMON_NAME, common))
        return x509.Name([x509.NameAttribute(oid, value) for oid, value in both])

    def certificate(common, key, issuer, issuer_key, authority):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(common))
            .issuer_name(name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.BasicConstraints(authority, None), True)
            .add_extension(
                x509.KeyUsage(
                    not authority, False, False, False, False, authority, authority, False, False
                ),
                True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
            )
        )
        if not authority:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(usage, False)
        return builder.sign(issuer_key, hashes.SHA256())

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate("Authority", root_key, "Authority", root_key, True)
    leaf = certificate("Camera Maker", key, "Authority", root_key, False)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    authority = root.public_bytes(pem)
    return leaf.public_bytes(pem) + authority, secret, authority


def authority() -> bytes:
    """The certificate that a trust list would hold, PEM."""
    return _credentials()[2]


def signed(
    data: bytes,
    actions: Sequence[dict[str, Any]],
    format: str = "JPEG",
    *,
    ingredient: bytes | None = None,
    remote: str = "",
    embed: bool = True,
) -> bytes:
    """A file with a C2PA manifest of these actions, signed by a certificate of the tests' own.

    Args:
        ingredient: a file of the same format that it was made of.
        remote: where a copy of the manifest is said to be.
        embed: whether the manifest is in the file.
    """
    import c2pa

    chain, key, _ = _credentials()
    info = c2pa.C2paSignerInfo(alg=b"es256", sign_cert=chain, private_key=key, ta_url=None)
    manifest = {
        "claim_generator_info": [{"name": "Made Up", "version": "1.0"}],
        "title": "made up",
        "assertions": [{"label": "c2pa.actions", "data": {"actions": list(actions)}}],
    }
    mime = MIME[format]
    builder = c2pa.Builder(manifest)
    if ingredient is not None:
        about = {"title": "source", "relationship": "parentOf", "label": "source"}
        builder.add_ingredient(about, mime, io.BytesIO(ingredient))
    if remote:
        builder.set_remote_url(remote)
    if not embed:
        builder.set_no_embed()
    out = io.BytesIO()
    builder.sign(c2pa.Signer.from_info(info), mime, io.BytesIO(data), out)
    return out.getvalue()


def created(source_type: str = "trainedAlgorithmicMedia") -> list[dict[str, Any]]:
    """The actions of something that was made so."""
    return [{"action": "c2pa.created", "digitalSourceType": IPTC + source_type}]
