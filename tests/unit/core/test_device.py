"""A named device never falls back to another."""

import pickle

import pytest
import torch

from lipsync_cli.core.device import resolve_device
from lipsync_cli.core.errors import LipsyncError, ResourceError, UsageError, WeightsError


def test_auto_takes_what_there_is():
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "", "CPU"])
def test_an_unknown_name_is_usage(name):
    with pytest.raises(UsageError, match="unknown device") as caught:
        resolve_device(name)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["cuda:64", "cpu:1", "mps:1"])
def test_an_absent_device_is_a_resource(name):
    with pytest.raises(ResourceError, match="not present") as caught:
        resolve_device(name)
    assert caught.value.exit_code == 6


def test_codes_are_distinct():
    codes = [error.exit_code for error in LipsyncError.__subclasses__()]
    assert sorted(codes) == [2, 3, 4, 5, 6]


def test_an_error_survives_a_worker_process():
    error = pickle.loads(pickle.dumps(WeightsError("what", "do")))
    assert (type(error), error.message, error.hint) == (WeightsError, "what", "do")
