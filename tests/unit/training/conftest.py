import pytest


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    """Accelerate keeps its state in the class: each test, like each run, starts without."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
