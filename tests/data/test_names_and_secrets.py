"""Names that become paths, secrets in records, and outputs that can't be written."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, private_folder
from polarcast.data.names import checked_name, problem_of_name
from polarcast.data.secrets import redacted, redacted_tree


@given(st.text())
def test_a_name_stays_in_its_folder(name: str) -> None:
    if not problem_of_name(name):
        path = os.path.normpath(os.path.join("/folder", name))
        assert os.path.dirname(path) == "/folder"
        assert name.isprintable()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\nb", "-rf", ".ssh", " a", "a\x00", "a" * 201, 3, None])
def test_names_that_are_no_file_of_a_folder(name: object) -> None:
    with pytest.raises(BadInput, match="a name"):
        checked_name(name, "here")


@pytest.mark.parametrize("name", ["unet", "U-Net (MSE)", "train-000001.tar", "übersicht", "x; touch pwned;"])
def test_names_that_are(name: str) -> None:
    assert checked_name(name, "here") == name


@pytest.mark.parametrize(
    "text",
    [
        "https://user:PASS1@host/x/{name}", "s3://PASS1@bucket/x", "data.shards=https://h/x?token=PASS1",
        "https://h/x?a=b&X-Amz-Signature=PASS1&c=d", "pipe:curl -H 'Authorization: Bearer PASS1' https://h/{name}",
        "pipe:curl --password PASS1 https://h", "pipe:curl -u me:PASS1 https://h", "AWS_SECRET_ACCESS_KEY=PASS1",
        '{"api_key": "PASS1"}', "PGPASSWORD=PASS1 psql", "--http-password=PASS1", "-u bob:'PASS1'",
        "-u 'bob:a;b,PASS1&x'", '--password "a PASS1 b"', "token=ab,PASS1", "--proxy-user u:PASS1",
        "--oauth2-bearer PASS1", "--passphrase PASS1", "sshpass -p PASS1 ssh h",
        "sshpass -p 'a PASS1'", "lftp -u me,PASS1 h", "-H 'Cookie: a=b; c=PASS1'",
        """-H 'Authorization: Digest username="a", response="PASS1"'""", "https://h/?key=PASS1",
        "https://h/?a=1&code=PASS1",
        "https://u:a/PASS1@h/x", "AWSAccessKeyId=PASS1", "token=secret-PASS1", "token='a b PASS1'",
        'X-Auth-Token: "PASS1"',
    ],
)  # fmt: skip
def test_secrets_are_replaced(text: str) -> None:
    once = redacted(text)
    assert "PASS1" not in once
    assert "secret-" in once
    assert redacted(once) == once
    assert redacted_tree({text: [text, 3, None]}) == {once: [once, 3, None]}


@pytest.mark.parametrize(
    "text", ["/scratch/shards", "pipe:aws s3 cp s3://bucket/{name} -", "https://host/a@b.tar", "author=me",
             "model.name=unet", "signal=3", "train.learning_rate=0.1", "design=3", "runs/secrets/a: not a run",
             "/etc/passwd: is not a folder", "tokens=7", "curl -o x https://h:80/a"],
)  # fmt: skip
def test_other_text_is_kept(text: str) -> None:
    assert redacted(text) == text


def test_outputs_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    for path, is_folder in (
        (tmp_path / "file", True), (tmp_path, False), (tmp_path / "file" / "x", False), (tmp_path / "file" / "x", True),
        (tmp_path / ("n" * 300), False), (tmp_path / "a\x00b", True),
        (tmp_path / "pipe", False), (Path("/dev/full"), False),
    ):  # fmt: skip
        with pytest.raises(BadInput):
            checked_output(path, is_folder)
    assert checked_output(tmp_path / "a" / "b" / "c.nc") == tmp_path / "a" / "b" / "c.nc"
    assert checked_output(tmp_path, is_folder=True) == tmp_path


def test_a_private_folder_is_ours(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "new" / "private")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert private_folder(folder) == folder
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for path in (tmp_path / "link", tmp_path / "open"):
        with pytest.raises(BadInput, match="another user"):
            private_folder(path)
