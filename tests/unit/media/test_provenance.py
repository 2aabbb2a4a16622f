"""Marks in the file, beside it, and signed: read back by others than those who wrote them."""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import av
import pytest

from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.media.c2pa_manifest import load_signer, sign
from lipsync_cli.media.provenance import (
    DIGITAL_SOURCE_TYPE,
    Provenance,
    is_marked,
    mark,
    mark_tags,
    sidecar_path,
    write_sidecar,
)
from tests.finishing import remake, shown
from tests.media_clips import Clip, write_clip

TERM = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


def made(source: Path) -> Provenance:
    return Provenance(
        inputs=(("source", source),),
        engine="flashlips-tiny",
        model="flashlips-tiny 0123abcd",
        seed=7,
        options={"adapt": "auto"},
        edited=((Fraction(1, 25), Fraction(3, 5)),),
        consent="Ada, 2026-11-21",
    )


def marked(folder: Path, suffix: str = "mp4", clip: Clip | None = None) -> tuple[Path, Path]:
    source, out = folder / f"in.{suffix}", folder / f"out.{suffix}"
    write_clip(source, clip or Clip(duration=Fraction(3, 5)))
    remake(source, out, tags=mark_tags(source, out.suffix))
    mark(out)
    return source, out


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_the_file_says_it(tmp_path, suffix):
    source, out = marked(tmp_path, suffix)
    assert not is_marked(source) and is_marked(out)
    with av.open(str(out)) as container:
        comment = {key.lower(): value for key, value in container.metadata.items()}["comment"]
    assert TERM == DIGITAL_SOURCE_TYPE and TERM in comment and "AI-modified" in comment
    assert shown(out) == shown(source)


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_the_xmp_packet_is_found_by_a_reader_of_xmp(tmp_path, suffix):
    _, out = marked(tmp_path, suffix)
    data = out.read_bytes()
    at, boxes = 0, []
    while at < len(data):  # ISO 14496-12: every byte belongs to a box
        size = int.from_bytes(data[at : at + 4], "big")
        boxes.append((data[at + 4 : at + 8], data[at + 8 : at + size]))
        at += size
    assert at == len(data)
    packets = [body[16:] for kind, body in boxes if kind == b"uuid" and body[:4] == b"\xbe\x7a\xcf\xcb"]
    assert len(packets) == 1 and f"DigitalSourceType>{TERM}<".encode() in packets[0]
    with av.open(str(out), options={"export_xmp": "1"}) as container:
        assert suffix == "mov" or TERM in container.metadata["xmp"]


def test_a_comment_that_was_there_stays(tmp_path):
    write_clip(tmp_path / "plain.mp4", Clip(duration=Fraction(3, 5)))
    remake(tmp_path / "plain.mp4", tmp_path / "in.mp4", tags={"comment": "take 3"})
    tags = mark_tags(tmp_path / "in.mp4", ".mp4")
    assert tags["comment"].startswith("take 3\n") and TERM in tags["comment"]
    remake(tmp_path / "in.mp4", tmp_path / "out.mp4", tags=tags)
    assert mark_tags(tmp_path / "out.mp4", ".mp4") == tags  # said once, however often it is edited


def test_the_record_beside_it(tmp_path):
    source, out = marked(tmp_path)
    path = write_sidecar(out, made(source), at=datetime(2026, 11, 21, tzinfo=UTC))
    assert path == sidecar_path(out) == tmp_path / "out.mp4.lipsync.json"
    record = json.loads(path.read_text("utf-8"))
    assert next(iter(record)) == "schema" and record["ai_modified"] is True
    assert record["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert record["inputs"] == [
        {
            "role": "source",
            "file": "in.mp4",
            "bytes": source.stat().st_size,
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        }
    ]
    assert (record["seed"], record["consent"], record["edited_s"]) == (7, "Ada, 2026-11-21", [[0.04, 0.6]])
    assert record["made"] == "2026-11-21T00:00:00+00:00" and str(tmp_path) not in path.read_text("utf-8")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    """A signer's certificate under an authority of its own, and the key."""
    pytest.importorskip("c2pa", reason="needs the extra c2pa")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    folder, now = tmp_path_factory.mktemp("keys"), datetime.now(UTC)

    def issue(name, key, above, above_key, authority):
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        subject = x509.Name([*subject, x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "a test")])
        usage = x509.KeyUsage(True, False, False, False, False, authority, authority, False, False)
        builder = (
            x509.CertificateBuilder(above or subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(above_key.public_key()), critical=False
            )
        )
        if not authority:
            purpose = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(purpose, critical=False)
        return builder.sign(above_key, hashes.SHA256())

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    top = issue("authority", keys[0], None, keys[0], True)
    leaf = issue("signer", keys[1], top.subject, keys[0], False)
    (folder / "chain.pem").write_bytes(leaf.public_bytes(Encoding.PEM) + top.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(keys[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "chain.pem", folder / "key.pem"


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_signed_manifest_says_what_was_done_and_holds(tmp_path, certificate, suffix):
    import c2pa

    source, out = marked(tmp_path, suffix)
    signer = load_signer(*certificate, out)
    assert signer.algorithm == "es256"
    sign(out, source, signer, made(source), out.name)
    with c2pa.Reader(str(out)) as reader:
        manifest, state = reader.get_active_manifest(), reader.get_validation_state()
    assert state == "Valid"  # intact; that nobody knows the authority is another matter
    actions = next(a for a in manifest["assertions"] if a["label"].startswith("c2pa.actions"))["data"][
        "actions"
    ]
    assert [action["action"] for action in actions] == ["c2pa.opened", "c2pa.edited"]
    assert actions[1]["digitalSourceType"] == TERM
    region = actions[1]["changes"][0]["region"][0]
    assert (region["time"]["start"], region["time"]["end"]) == ("0.040", "0.600")
    assert manifest["ingredients"][0]["relationship"] == "parentOf"
    assert is_marked(out) and shown(out) == shown(source)
    out.write_bytes(out.read_bytes().replace(b"mdat", b"mdaz", 1))
    with c2pa.Reader(str(out)) as reader:
        assert reader.get_validation_state() == "Invalid"


def test_a_source_that_c2pa_cannot_read_has_no_parent(tmp_path, certificate):
    import c2pa

    source, out = tmp_path / "in.mkv", tmp_path / "out.mp4"
    write_clip(source, Clip(duration=Fraction(3, 5)))
    remake(source, out)
    sign(out, source, load_signer(*certificate, out), made(source), out.name)
    with c2pa.Reader(str(out)) as reader:
        assert reader.get_validation_state() == "Valid"


def test_half_of_the_pair_is_refused(tmp_path):
    with pytest.raises(UsageError, match="certificate and its key") as caught:
        load_signer(tmp_path / "chain.pem", None, tmp_path / "out.mp4")
    assert caught.value.exit_code == 2 and "--c2pa-key" in caught.value.hint


def test_a_container_without_a_place_for_it_is_refused(certificate, tmp_path):
    with pytest.raises(UsageError, match=r"no place in a \.mkv") as caught:
        load_signer(*certificate, tmp_path / "out.mkv")
    assert ".mp4" in caught.value.hint


def test_without_the_extra_the_line_to_type_is_given(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(UsageError, match="extra c2pa") as caught:
        load_signer(tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "out.mp4")
    assert "pip install" in caught.value.hint


def test_files_that_are_no_key_or_another_key_are_refused(certificate, tmp_path):
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(InputError, match="no private key") as caught:
        load_signer(certificate[0], tmp_path / "key.pem", tmp_path / "out.mp4")
    assert caught.value.exit_code == 3
    with pytest.raises(InputError, match="cannot be read"):
        load_signer(tmp_path / "none.pem", certificate[1], tmp_path / "out.mp4")
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    other = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    source, out = marked(tmp_path)
    before = out.read_bytes()
    with pytest.raises(InputError, match="cannot be signed"):
        sign(out, source, load_signer(certificate[0], tmp_path / "key.pem", out), made(source), out.name)
    assert out.read_bytes() == before
