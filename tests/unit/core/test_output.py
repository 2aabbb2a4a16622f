"""An output is whole or absent, and never an input."""

import errno
import os
import stat

import pytest

from lipsync_cli.core.errors import InputError, ResourceError, UsageError
from lipsync_cli.core.output import atomic_path, check_output


def test_an_existing_output_is_refused_unless_asked(tmp_path):
    out = tmp_path / "out.mp4"
    out.write_text("old")
    with pytest.raises(UsageError, match="exists") as caught:
        check_output(out, [], overwrite=False)
    assert caught.value.exit_code == 2 and "--overwrite" in caught.value.hint
    check_output(out, [], overwrite=True)


def test_the_input_is_never_the_output_even_by_another_name(tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_text("x")
    link = tmp_path / "link.mp4"
    link.symlink_to(clip)
    for name in (clip, link, tmp_path / "." / "clip.mp4"):
        with pytest.raises(UsageError, match="the output is the input"):
            check_output(name, [clip], overwrite=True)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        check_output(tmp_path / "no" / "out.mp4", [], overwrite=False)


def test_success_leaves_one_ordinary_file(tmp_path):
    out = tmp_path / "out.mp4"
    with atomic_path(out) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".mp4"
        temporary.write_text("new")
        assert not out.exists()
    assert out.read_text() == "new" and list(tmp_path.iterdir()) == [out]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_failure_leaves_what_was_there(tmp_path, error):
    out = tmp_path / "out.mp4"
    out.write_text("old")
    with pytest.raises(type(error)), atomic_path(out) as temporary:
        temporary.write_text("half")
        raise error
    assert out.read_text() == "old" and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("number", "kind", "word"),
    [(errno.ENOSPC, ResourceError, "full"), (errno.EACCES, InputError, "cannot be written")],
)
def test_the_system_s_refusals_are_told(tmp_path, number, kind, word):
    with pytest.raises(kind, match=word), atomic_path(tmp_path / "out.mp4"):
        raise OSError(number, os.strerror(number))
    assert list(tmp_path.iterdir()) == []
