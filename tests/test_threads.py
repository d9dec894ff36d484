"""Threads of torch."""

import torch

from cgenn.threads import torch_threads


def test_threads_are_set_and_put_back():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
